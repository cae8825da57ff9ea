"""The extension modules: which exist, which flags each instruction set gets, where OpenMP is.

All metadata is in pyproject.toml. Environment: FASTCONV_OPENMP=0 builds single-threaded,
FASTCONV_DEBUG=1 turns C assertions and Cython's bounds checks on, FASTCONV_SANITIZE=address,undefined
adds those sanitizers.
"""

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

KERNELS = Path("src/fastconv/_kernels")
CSRC = KERNELS / "csrc"
DEBUG = os.environ.get("FASTCONV_DEBUG", "0") not in ("", "0")
SANITIZE = os.environ.get("FASTCONV_SANITIZE", "")
X86 = platform.machine().lower() in ("x86_64", "amd64")

# Flags of each isa_<name>.c, by compiler family. An instruction set that does not compile is left out.
ISA_FLAGS = {
    "generic": {"unix": [], "msvc": []},
    "avx2": {"unix": ["-mavx2", "-mfma"], "msvc": ["/arch:AVX2"]},
    "avx512": {
        "unix": ["-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"],
        "msvc": ["/arch:AVX512"],
    },
}
OPENMP_FLAGS = {  # (compile, link), tried in this order
    "unix": [(["-fopenmp"], ["-fopenmp"]), (["-Xpreprocessor", "-fopenmp"], ["-lomp"])],
    "msvc": [(["/openmp"], [])],
}
OPENMP_PROBE = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"

NO_COMPILER = """
fastconv needs a C compiler to build, and none was found:
    Debian, Ubuntu   apt-get install build-essential python3-dev
    Fedora           dnf install gcc python3-devel
    macOS            xcode-select --install   (and `brew install libomp` for threads)
    Windows          Visual Studio Build Tools, workload "Desktop development with C++"
"""


class BuildKernels(build_ext):
    """Adds what setuptools lacks: flags per source file, and a probe for OpenMP."""

    def build_extensions(self):
        self.family = "msvc" if self.compiler.compiler_type == "msvc" else "unix"
        self.require_compiler()
        compile_openmp, link_openmp, openmp = self.find_openmp()
        for extension in self.extensions:
            extension.extra_compile_args += self.common_flags() + compile_openmp
            extension.extra_link_args += link_openmp + sanitizer_flags()
            if extension.name.endswith(".isa"):
                self.add_instruction_sets(extension)
                extension.define_macros += [
                    ("FC_OPENMP", f'"{openmp}"'),
                    ("FC_COMPILE_FLAGS", '"' + " ".join(self.common_flags() + compile_openmp) + '"'),
                ]
        super().build_extensions()

    def common_flags(self):
        if self.family == "msvc":
            return ["/O2", "/std:c11"]
        optimize = ["-O1", "-g", "-fno-omit-frame-pointer"] if SANITIZE else ["-O3"]
        return ["-std=c11", "-fvisibility=hidden", *optimize, *sanitizer_flags()]

    def require_compiler(self):
        with tempfile.TemporaryDirectory() as folder:
            if not self.builds(folder, "int main(void) { return 0; }\n", [], []):
                sys.exit(NO_COMPILER)

    def find_openmp(self):
        """Compile flags, link flags and a word for show_config."""
        if os.environ.get("FASTCONV_OPENMP", "1") == "0":
            return [], [], "disabled when built"
        with tempfile.TemporaryDirectory() as folder:
            for compile_args, link_args in OPENMP_FLAGS[self.family]:
                if self.builds(folder, OPENMP_PROBE, compile_args, link_args):
                    return compile_args, link_args, "yes"
        print("fastconv: no OpenMP found; building single-threaded", file=sys.stderr)
        return [], [], "not found when built"

    def builds(self, folder, code, compile_args, link_args):
        source = Path(folder, "probe.c")
        source.write_text(code)
        try:
            objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=compile_args)
            self.compiler.link_executable(objects, str(Path(folder, "probe")), extra_postargs=link_args)
        except (CompileError, LinkError, OSError, subprocess.SubprocessError):
            return False
        return True

    def add_instruction_sets(self, extension):
        headers = sorted(map(str, CSRC.glob("*.h")))
        for name in ["generic", "avx2", "avx512"] if X86 else ["generic"]:
            flags = self.common_flags() + ISA_FLAGS[name][self.family]
            try:
                objects = self.compiler.compile(
                    [str(CSRC / f"isa_{name}.c")],
                    output_dir=self.build_temp,
                    include_dirs=[str(CSRC)],
                    extra_postargs=flags + ([] if DEBUG else self.no_assertions()),
                    depends=headers,
                )
            except CompileError:
                if name == "generic":
                    raise
                print(f"fastconv: this compiler cannot build the {name} kernels; leaving them out", file=sys.stderr)
                continue
            extension.extra_objects += objects
            extension.define_macros.append((f"FC_WITH_{name.upper()}", "1"))

    def no_assertions(self):
        return ["/DNDEBUG"] if self.family == "msvc" else ["-DNDEBUG"]


def sanitizer_flags():
    return [f"-fsanitize={SANITIZE}"] if SANITIZE else []


def extensions():
    headers = sorted(map(str, CSRC.glob("*.h")))
    for source in sorted(KERNELS.glob("*.pyx")):
        yield Extension(
            f"fastconv._kernels.{source.stem}",
            [str(source)] + ([str(CSRC / "dispatch.c")] if source.stem == "isa" else []),
            include_dirs=[str(CSRC), numpy.get_include()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION")],
            depends=headers,
        )


setup(
    ext_modules=cythonize(
        list(extensions()),
        build_dir="build/cython",
        include_path=["src"],
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "embedsignature": False,
            "freethreading_compatible": True,
        },
        quiet=True,
    ),
    cmdclass={"build_ext": BuildKernels},
)
