"""Builds the C++ extension ``pyfastnn._C``; everything that is only data stands in pyproject.toml.

Environment variables:
    MAX_JOBS           compilers at the same time (ninja's default is the number of cores).
    DEBUG              1: no optimisation, with debug symbols.
    PYFASTNN_SANITIZE  list for -fsanitize=, e.g. ``address,undefined``.
    PYFASTNN_CUDA      auto (default): CUDA kernels are built if torch has CUDA and there is an nvcc
                       of the same major version; 1: an error says why if not; 0: never.
    TORCH_CUDA_ARCH_LIST  the CUDA devices to compile for, as "8.0;9.0+PTX"; numbers alone. Default:
                       8.0 8.6 8.9 9.0 10.0 12.0+PTX, or those of them that nvcc knows.
    CUDA_HOME          the CUDA toolkit; default: where nvcc is, else /usr/local/cuda.
"""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

from setuptools import setup

ROOT = Path(__file__).resolve().parent


def import_cpp_extension() -> ModuleType:
    """Import torch's build helper, or stop with the commands that make it importable.

    The extension must be compiled against the torch it will run with, so torch is no build
    requirement: an isolated build would fetch another one. Such a build hides the packages of the
    environment it installs into, therefore those folders are tried as well.
    """
    try:
        from torch.utils import cpp_extension
    except ImportError:
        sys.path += [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        try:
            from torch.utils import cpp_extension
        except ImportError as error:
            raise SystemExit(
                f"pyfastnn is compiled against the installed torch, which cannot be imported "
                f"({error}). Run:\n"
                f"    pip install torch==2.13.0 'setuptools>=77' ninja\n"
                f"    pip install --no-build-isolation ."
            ) from None
    return cpp_extension


def flag(name: str) -> bool:
    """Read an environment variable that is 0 or 1; unset and empty mean 0."""
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        raise SystemExit(f"{name}: expected 0 or 1, got {value!r}")
    return value == "1"


cpp_extension = import_cpp_extension()
import torch  # noqa: E402  importable only after import_cpp_extension

# ninja lies beside this interpreter, which need not be on PATH in a venv that is not activated.
os.environ["PATH"] = sysconfig.get_path("scripts") + os.pathsep + os.environ.get("PATH", "")


class BuildExtension(cpp_extension.BuildExtension):
    """Keeps object files between builds of every kind, and records what was built against."""

    def finalize_options(self) -> None:
        """Choose the object folder: pip would take a fresh one and recompile everything."""
        super().finalize_options()
        tag = f"{sys.implementation.cache_tag}-torch-{torch.__version__}{'-cuda' * bool(CUDA_HOME)}"
        self.build_temp = str(ROOT / "build" / tag)

    def run(self) -> None:
        """Build, then write ``_build_info.py`` beside the extension."""
        super().run()
        package = ROOT / "pyfastnn" if self.inplace else Path(self.build_lib) / "pyfastnn"
        (package / "_build_info.py").write_text(
            '"""Written by setup.py: what the extension was built against."""\n\n'
            f'TORCH_VERSION = "{torch.__version__}"\n'
            f'CUDA_ARCHS = "{" ".join(cuda_archs())}"\n',
            encoding="utf-8",
        )


def toolkit() -> Path | str:
    """Return the folder of the CUDA toolkit to build with, or say why there is none.

    Neither torch's guess is trusted, which may be the parent of a link to nvcc, nor is there a look
    at the devices of this machine: it need not be the one that the build is for.
    """
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is a build without CUDA"
    named = os.environ.get("CUDA_HOME")
    guesses = [named] if named else [cpp_extension.CUDA_HOME, "/usr/local/cuda"]
    for home in (Path(guess) for guess in guesses if guess):
        if (home / "bin" / "nvcc").exists() and (home / "include" / "cuda_runtime_api.h").exists():
            break
    else:
        missing = f" in {named}" if named else ": set CUDA_HOME to its folder"
        return f"there is no CUDA toolkit (bin/nvcc and include){missing}"
    version = re.search(r"release ([0-9.]+)", ask_nvcc(home, "--version"))
    if version is None or version[1].split(".")[0] != torch.version.cuda.split(".")[0]:
        found = version[1] if version else "unknown"
        return f"torch was built with CUDA {torch.version.cuda}, but {home} is version {found}"
    return home


def ask_nvcc(home: Path, option: str) -> str:
    """Return what the compiler of a toolkit prints."""
    command = [home / "bin" / "nvcc", option]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def find_cuda() -> Path | None:
    """Return the CUDA toolkit to build with, or None to build for the CPU alone."""
    value = os.environ.get("PYFASTNN_CUDA", "auto")
    if value not in ("auto", "0", "1"):
        raise SystemExit(f"PYFASTNN_CUDA: expected auto, 0 or 1, got {value!r}")
    found = "" if value == "0" else toolkit()
    if isinstance(found, Path):
        return found
    if value == "1":
        raise SystemExit(f"PYFASTNN_CUDA=1: {found}")
    return None


def cuda_archs() -> list[str]:
    """Return the CUDA devices that are compiled for, such as 9.0 or 12.0+PTX; none without CUDA."""
    if not CUDA_HOME:
        return []
    archs = os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").split()
    if not archs:
        known = ask_nvcc(CUDA_HOME, "--list-gpu-code").split()
        usual = ("8.0", "8.6", "8.9", "9.0", "10.0", "12.0")
        archs = [arch for arch in usual if machine_code(arch) in known]
        archs[-1] += "+PTX"
    for arch in archs:
        if not re.fullmatch(r"(8|9|\d\d)\.\d(\+PTX)?", arch):
            raise SystemExit(f"TORCH_CUDA_ARCH_LIST: expected 8.0 or higher, as 9.0, got {arch!r}")
    return archs


def machine_code(arch: str) -> str:
    """Return nvcc's name of the code for a device: sm_90 for 9.0."""
    return f"sm_{arch.removesuffix('+PTX').replace('.', '')}"


def arch_flags() -> list[str]:
    """Return nvcc's flags for the devices.

    The code of every device comes from the same PTX, that of 8.0: the kernels use nothing newer, it
    is the PTX that tests execute, and making it takes most of the time.
    """
    code = [machine_code(arch) for arch in cuda_archs()]
    code += ["compute_80"] * any(arch.endswith("+PTX") for arch in cuda_archs())
    return [f"-gencode=arch=compute_80,code=[{','.join(code)}]"]


def is_needed(source: Path) -> bool:
    """Say whether this build compiles a source file."""
    is_stand_in = source.name == "not_built.cpp"
    if not CUDA_HOME:
        return source.suffix == ".cpp" and ("cuda" not in source.parts or is_stand_in)
    return source.suffix in (".cpp", ".cu") and not is_stand_in


def extension() -> object:
    """Describe ``pyfastnn._C``: every source file under csrc, one set of flags for each language.

    No -march: each ISA file opens its own target region, so one binary runs everywhere. No
    -ffast-math: NaN and inf must travel as in torch.
    """
    optimisation = ["-O0", "-g"] if flag("DEBUG") else ["-O3", "-g0"]
    compile_args = ["-std=c++20", "-fopenmp", "-fvisibility=hidden", *optimisation]
    # GCC 12 finds "uninitialized" variables in its own AVX-512 headers (GCC bug 105593).
    compile_args += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
    link_args = ["-fopenmp"]
    if sanitizers := os.environ.get("PYFASTNN_SANITIZE", ""):
        compile_args += [f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer"]
        link_args += [f"-fsanitize={sanitizers}"]
    sources = (path.relative_to(ROOT) for path in sorted((ROOT / "csrc").rglob("*.c*")))
    arguments = {
        "name": "pyfastnn._C",
        "sources": [source.as_posix() for source in sources if is_needed(source)],
        "include_dirs": [str(ROOT / "csrc")],
        "extra_link_args": link_args,
    }
    if not CUDA_HOME:
        return cpp_extension.CppExtension(**arguments, extra_compile_args=compile_args)
    cpp_extension.CUDA_HOME = str(CUDA_HOME)
    nvcc_args = ["-std=c++20", "-Xcompiler", "-fvisibility=hidden", optimisation[0], *arch_flags()]
    return cpp_extension.CUDAExtension(
        **arguments, extra_compile_args={"cxx": compile_args, "nvcc": nvcc_args}
    )


CUDA_HOME = find_cuda()
major, minor = torch.__version__.split(".")[:2]
setup(
    ext_modules=[extension()],
    cmdclass={"build_ext": BuildExtension},
    # torch's C++ interface changes with every minor version: the wheel asks for the one it has.
    install_requires=[f"torch=={major}.{minor}.*"],
)
