// The one name of CUDA's runtime that nvimgcodec.h needs; no CUDA is needed to compile for a CPU.
#pragma once

typedef struct CUstream_st* cudaStream_t;
