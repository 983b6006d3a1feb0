"""Maps the folders at the root into the package `hjepa`, so that a wheel does not depend on the links in hjepa/."""

from setuptools import find_packages, setup

FOLDERS = ["configs", "kernels", "models", "pipeline"]

setup(
    package_dir={f"hjepa.{folder}": folder for folder in FOLDERS},
    packages=["hjepa"] + [f"hjepa.{name}" for folder in FOLDERS for name in find_packages(include=[folder, f"{folder}.*"])],
    package_data={"hjepa.configs": ["*.yaml"]},
)
