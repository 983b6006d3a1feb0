// The builds of the kernel, and which of them this processor runs.
#pragma once

#include <string>
#include <vector>

#include "crop.h"

namespace hjepa {

// What this processor runs, the fastest first; the last one is "plain".
const std::vector<Build>& builds();

// The build of that name, or the fastest one for an empty name. Throws std::invalid_argument for one that does not run here.
const Build& build_named(const std::string& name);

}  // namespace hjepa
