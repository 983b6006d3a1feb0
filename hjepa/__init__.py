"""hjepa feeds self-supervised vision training: multi-crop loading with DALI, block masks, and a thin trainer.

Its names are those of public.py, which is loaded when the first of them is asked for: it loads torch, which takes seconds, and
a program (start.py) answers Ctrl-C in these, too.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hjepa.public import *  # noqa: F403  # what its __all__ names
    from hjepa.public import __all__ as __all__

    __version__: str
else:  # so that a name that is not there is a type checker's error

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            metadata = import_module("importlib.metadata")
            try:
                return metadata.version("hjepa")
            except metadata.PackageNotFoundError as error:  # of a checkout that is on the path alone; programs ask with getattr
                raise AttributeError("hjepa is not installed, and so has no __version__") from error
        if name.startswith("__") and name != "__all__":  # warnings ask every module for one of these
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        public = import_module("hjepa.public")
        if name in globals():  # a module that came with it, such as hjepa.pipeline
            return globals()[name]
        if name not in (*public.__all__, "__all__"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(public, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), "__version__", *import_module("hjepa.public").__all__})
