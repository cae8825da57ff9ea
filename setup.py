"""The extension modules: which exist, which flags each instruction set gets, where OpenMP is.

All metadata is in pyproject.toml. Environment:

    FASTCONV_OPENMP=0                       build single-threaded
    FASTCONV_DEBUG=1                        C assertions, Cython's bounds checks; warnings in our C are errors
    FASTCONV_SANITIZE=address,undefined     with those sanitizers
    FASTCONV_INSTRUCTION_SETS=generic,avx2  kernels for these only; generic is one of them
    FASTCONV_EMULATE_AVX512=1               its kernels made of AVX2's instructions, to be tested; needs GCC
    CC, CFLAGS, LDFLAGS                     as everywhere

Each of these builds has its own folder below build/, so that switching between them never mixes objects.
With and without OpenMP or what is emulated it is the same one, since only one or two modules differ. What
several have in common lies in one folder for all: Cython's C, which FASTCONV_DEBUG alone decides about, and
instruction sets' objects.
"""

import hashlib
import os
import platform
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import Cython
import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError, CompileError
from setuptools.modified import newer_group

KERNELS = Path("src/fastconv/_kernels")
CSRC = KERNELS / "csrc"
EMULATED = Path(".ci/emulated")
DEPENDS = ["setup.py", *sorted(map(str, CSRC.glob("*.h")))]

DEBUG = os.environ.get("FASTCONV_DEBUG", "0") not in ("", "0")
SANITIZE = os.environ.get("FASTCONV_SANITIZE", "")
OPENMP = os.environ.get("FASTCONV_OPENMP", "1") not in ("", "0")
EMULATE = os.environ.get("FASTCONV_EMULATE_AVX512", "0") not in ("", "0")
ONLY = [name for name in os.environ.get("FASTCONV_INSTRUCTION_SETS", "").split(",") if name]
CHECKED = [*["debug"] * DEBUG, *filter(None, SANITIZE.split(","))]
BUILD = Path("build", "-".join([*CHECKED, *ONLY]))
CYTHON = Path("build", "debug" * DEBUG)
OBJECTS = Path("build", "-".join(CHECKED))

# Python's own variable says what a cross compiler builds for, as "linux-aarch64".
MACHINE = os.environ.get("_PYTHON_HOST_PLATFORM", platform.machine()).rpartition("-")[2].lower()
X86 = MACHINE in ("x86_64", "amd64")

# Flags of each isa_<name>.c, by compiler family; what takes longest to compile is first. One that does not
# compile is left out.
ISA_FLAGS = {
    "avx512": {
        "unix": [
            *["-mavx2", "-mfma", "-mf16c", "-mprfchw", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"],
            "-mprefer-vector-width=512",
        ],
        "msvc": ["/arch:AVX512"],
    },
    "avx2": {"unix": ["-mavx2", "-mfma", "-mf16c", "-mprfchw"], "msvc": ["/arch:AVX2"]},
    "generic": {"unix": [], "msvc": []},
}
QUICKLY = ["-O1", "-DFC_CALLS"]
if EMULATE:
    ISA_FLAGS["avx512"]["unix"] = [*ISA_FLAGS["avx2"]["unix"], *QUICKLY, "-DFC_EMULATED", f"-I{EMULATED}"]
if unknown := set(ONLY) - set(ISA_FLAGS):
    sys.exit(f"FASTCONV_INSTRUCTION_SETS: got {sorted(unknown)}, needs some of {list(ISA_FLAGS)}")
INSTRUCTION_SETS = [name for name in ISA_FLAGS if name == "generic" or (X86 and name in (ONLY or ISA_FLAGS))]

# The loop that threads share; build_info, which tells of OpenMP.
MENTION_OPENMP = ("fastconv._kernels.threads", "fastconv._kernels.isa")

PROBE_COMPILER = "#include <Python.h>\nint main(void) { return 0; }\n"
PROBE_OPENMP = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"

NO_COMPILER = """
fastconv needs a C compiler and Python's headers to build; the attempt above to use them failed. Install them:
    Debian, Ubuntu   apt-get install build-essential python3-dev
    Fedora           dnf install gcc python3-devel
    macOS            xcode-select --install   (and `brew install libomp` for threads)
    Windows          Visual Studio Build Tools, workload "Desktop development with C++"
"""


def what_cython_reads():
    """A digest of it: our sources, and NumPy's interface and Cython itself by their versions."""
    digest = hashlib.sha256(f"{Cython.__version__} {numpy.__version__}".encode())
    for path in ["setup.py", *sorted([*KERNELS.glob("*.pyx"), *KERNELS.glob("*.pxd")])]:
        digest.update(f"\n{path}\n".encode() + Path(path).read_bytes())
    return digest.hexdigest()


def write_if_changed(path, text):
    """Files whose text stays the same stay as old as they are, and so does what depends on them."""
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def without_metadata(path):
    """What Cython wrote, without the first comment, which has the environment's paths."""
    return path.read_bytes().partition(b"END: Cython Metadata")[2]


def openmp_flags(family):
    """(compile flags, link flags) to try, in order."""
    if family == "msvc":
        return [(["/openmp"], [])]
    apple = ["-Xpreprocessor", "-fopenmp"]  # Apple's clang knows the pragmas, but brings no library
    flags = [(["-fopenmp"], ["-fopenmp"])]
    if sys.platform == "darwin":
        flags.append((apple, ["-lomp"]))
        for prefix in (os.environ.get("HOMEBREW_PREFIX"), "/opt/homebrew", "/usr/local"):
            if prefix:
                lib = f"{prefix}/opt/libomp/lib"
                include = f"-I{prefix}/opt/libomp/include"
                flags.append(([*apple, include], [f"-L{lib}", f"-Wl,-rpath,{lib}", "-lomp"]))
    return flags


class BuildKernels(build_ext):
    """Adds what setuptools lacks: flags per source file, a probe for OpenMP, all processors at work."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        self.family = "msvc" if self.compiler.compiler_type == "msvc" else "unix"
        if not self.builds(PROBE_COMPILER):
            sys.exit(NO_COMPILER)
        self.write_c()
        compile_openmp, link_openmp, openmp = self.find_openmp()
        found = BUILD / "openmp.txt"
        write_if_changed(found, f"{openmp} {compile_openmp} {link_openmp}" + EMULATE * " emulated")
        for extension in self.extensions:
            extension.extra_compile_args += self.common_flags() + self.cython_flags()
            extension.extra_link_args += self.sanitizer_flags()
            if extension.name in MENTION_OPENMP:
                extension.depends = [*extension.depends, str(found)]
                extension.extra_compile_args += compile_openmp
                extension.extra_link_args += link_openmp
            if extension.name.endswith(".isa"):
                pythons = getattr(self.compiler, "compiler_so", [])[1:]  # MSVC's class has none
                flags = " ".join(pythons + self.common_flags() + compile_openmp).replace('"', "'")
                extension.define_macros += [("FC_OPENMP", f'"{openmp}"'), ("FC_COMPILE_FLAGS", f'"{flags}"')]
                extension.define_macros += [("FC_EMULATED", "1")] * EMULATE
        super().build_extensions()

    def build_extension(self, ext):
        # The first of them: while one thread waits here, the others compile the rest.
        if ext.name.endswith(".isa"):
            self.add_instruction_sets(ext)
        super().build_extension(ext)

    def copy_extensions_to_source(self):
        self.force = True  # another variant's module may be newer than this one's
        super().copy_extensions_to_source()

    # ---- C from Cython ----

    def write_c(self):
        """Extensions get C for sources, which is written where what Cython reads has changed.

        By dates it would be written, and compiled, whenever pip builds: that is in a new environment, whose
        NumPy and Cython are younger than all that has been compiled.
        """
        folder = CYTHON / "c"
        sources = [folder / f"{Path(extension.sources[0]).stem}.c" for extension in self.extensions]
        mark, wanted = folder / "read.sha256", what_cython_reads()
        if not all(path.exists() for path in [*sources, mark]) or mark.read_text() != wanted:
            folder.mkdir(parents=True, exist_ok=True)
            mark.unlink(missing_ok=True)
            self.call_cython(sources)
            mark.write_text(wanted)
        for extension, source in zip(self.extensions, sources, strict=True):
            extension.sources[0] = str(source)

    def call_cython(self, sources):
        """Those of the sources whose text stays the same stay as old as they are."""
        modules = cythonize(
            self.extensions,
            build_dir=str(CYTHON / "cython"),
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
            nthreads=self.parallel,
            quiet=True,
        )
        for module, source in zip(modules, sources, strict=True):
            written = Path(module.sources[0])
            if not source.exists() or without_metadata(source) != without_metadata(written):
                source.write_bytes(written.read_bytes())

    # ---- flags ----

    def common_flags(self):
        if self.family == "msvc":
            return ["/std:c11", *(["/Od", "/Zi", "/UNDEBUG"] if DEBUG else ["/O2"])]
        # Contracted or not, a*b + c must have the same bits in a loop and in its tail. On x86 the kernels
        # spell out each fused operation; elsewhere the compiler must fuse, or half of the speed is lost.
        flags = ["-std=c11", "-fvisibility=hidden", "-ffp-contract=off" if X86 else "-ffp-contract=fast"]
        if DEBUG or SANITIZE:
            # Lines, but no variables: keeping track of these takes longer than all else.
            flags += [*QUICKLY, "-g1", "-fno-omit-frame-pointer", *["-UNDEBUG"] * DEBUG]
        else:
            # On cache lines, lest a loop's speed depend, by a third, on the code that lies before it.
            flags += ["-O3", "-g0", "-falign-functions=64"]
        return flags + self.sanitizer_flags()

    def sanitizer_flags(self):
        if not SANITIZE:
            return []
        # Checks are calls, not code in place, which takes several times as long to compile.
        calls = ["--param=asan-instrumentation-with-call-threshold=0"] * ("address" in SANITIZE)
        return [f"-fsanitize={SANITIZE}", *calls]

    def cython_flags(self):
        """For C by Cython, of whose loops over parts clang would say: parentheses, and abs(int) of a size."""
        if self.family == "msvc":
            return []
        # The inner loops are in the micro-kernels: -O3 makes the rest larger, and a third longer to compile.
        optimization = [] if DEBUG or SANITIZE else ["-O2"]
        return [*optimization, "-Wno-parentheses-equality", "-Wno-absolute-value"]

    def warning_flags(self):
        """For C written by hand; Cython's is not ours to tidy."""
        if self.family == "msvc":
            return ["/W3"]
        return ["-Wall", "-Wextra", *["-Werror"] * DEBUG]

    # ---- probes ----

    def find_openmp(self):
        """Compile flags, link flags and a word for show_config."""
        if not OPENMP:
            return [], [], "disabled when built"
        for compile_args, link_args in openmp_flags(self.family):
            if self.builds(PROBE_OPENMP, compile_args, link_args):
                return compile_args, link_args, "yes"
        print("fastconv: no OpenMP found; building single-threaded", file=sys.stderr)
        return [], [], "not found when built"

    def builds(self, code, compile_args=(), link_args=()):
        """Whether a program that consists of `code` compiles and links."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(code)
            try:
                objects = self.compiler.compile(
                    [str(source)], output_dir=folder, extra_postargs=list(compile_args)
                )
                self.compiler.link_executable(
                    objects, str(Path(folder, "probe")), extra_postargs=list(link_args)
                )
            except (BaseError, CCompilerError, OSError) as error:
                print(f"fastconv: {error}", file=sys.stderr)
                return False
        return True

    # ---- two objects per instruction set, one for each dtype ----

    def add_instruction_sets(self, extension):
        with ThreadPoolExecutor(self.parallel) as pool:
            compiled = {
                name: [pool.submit(self.compile_instruction_set, name, bits) for bits in (32, 64)]
                for name in INSTRUCTION_SETS
            }
        for name, futures in compiled.items():
            objects = [future.result() for future in futures]
            if None in objects:
                print(
                    f"fastconv: this compiler cannot build the {name} kernels; leaving them out",
                    file=sys.stderr,
                )
                continue
            extension.extra_objects += objects
            extension.depends = [*extension.depends, *objects]
            extension.define_macros.append((f"FC_WITH_{name.upper()}", "1"))

    def compile_instruction_set(self, name, bits):
        """The object file of isa_<name>.c for one dtype, or None where this compiler cannot make it."""
        emulated = EMULATE and name == "avx512"
        source = str(CSRC / f"isa_{name}.c")
        folder = str(OBJECTS / Path(self.build_temp).name / f"f{bits}{'-emulated' * emulated}")
        (path,) = self.compiler.object_filenames([source], output_dir=folder)
        if self.force or newer_group([source, *DEPENDS, *[str(EMULATED / "immintrin.h")] * emulated], path):
            flags = self.common_flags() + self.warning_flags() + ISA_FLAGS[name][self.family]
            try:
                self.compiler.compile(
                    [source], output_dir=folder, macros=[("FC_DTYPE", str(bits))], extra_postargs=flags
                )
            except CompileError:
                if name == "generic" or DEBUG:
                    raise
                return None
        return path


def extensions():
    for source in sorted(KERNELS.glob("*.pyx"), key=lambda path: (path.stem != "isa", path)):
        yield Extension(
            f"fastconv._kernels.{source.stem}",
            [str(source)] + ([str(CSRC / "dispatch.c")] if source.stem == "isa" else []),
            include_dirs=[str(CSRC), numpy.get_include()],
            define_macros=[
                ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
                ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),
            ],
            depends=DEPENDS,
        )


if __name__ == "__main__":  # Cython's processes import this file where they cannot fork
    setup(
        ext_modules=list(extensions()),
        options={"build": {"build_base": str(BUILD)}},
        cmdclass={"build_ext": BuildKernels},
    )
