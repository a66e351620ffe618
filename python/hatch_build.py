"""Builds what the wheel carries beside Python: the library, the command, the trampoline and the headers.

It needs cargo, and a C compiler for the trampoline: without one the package calls Python functions by ctypes, which is slower.
RESAY_CARGO_PROFILE is the profile of cargo (`dist`), RESAY_WHEEL_PLATFORM the platform in the wheel's name.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "libresay.so.1"
TRAMPOLINE = "libresay_python.so"
HEADERS = ("resay.h", "resay_plugin.h", "resay_plugin.hpp")
NOTICES = "THIRD-PARTY-NOTICES"


class Failure(Exception):
    """A sentence for the person who installs."""


class ResayBuildHook(BuildHookInterface):
    def initialize(self, version, build_data):
        if self.target_name != "wheel":
            return
        try:
            self._build(version, build_data)
        except Failure as failure:
            raise SystemExit(f"resay cannot be built: {failure}") from None

    def _build(self, version, build_data):
        if not sys.platform.startswith("linux"):
            raise Failure(f"it runs on Linux, and this is {sys.platform}.")
        root = Path(self.root)
        rust = next((place for place in (root / "rust", root.parent) if (place / "src/engine.rs").is_file()), None)
        if rust is None:
            raise Failure("the sources of the engine are missing. Install from the repository or from an sdist of it.")
        built, built_library = _cargo(rust)
        made = root / "build" / "wheel"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        library, command, trampoline = made / LIBRARY, made / "resay", made / TRAMPOLINE
        _strip(built_library / "libresay.so", library)
        _strip(built / "resay", command)
        command.chmod(0o755)

        files = {str(library): f"resay/lib/{LIBRARY}"}
        if _compile(root / "trampoline/resay_python.c", rust / "include", trampoline):
            files[str(trampoline)] = f"resay/lib/{TRAMPOLINE}"
        for header in HEADERS:
            files[str(rust / "include" / header)] = f"resay/include/{header}"
        for licence in (rust / "LICENSE-APACHE", rust / "LICENSE-MIT", _notices(rust, made / NOTICES)):
            files[str(licence)] = f"resay-{self.metadata.version}.dist-info/licenses/{licence.name}"
        interface = rust / "include/resay.json"
        if interface.is_file():
            files[str(interface)] = "resay/include/resay.json"
        if version == "editable":
            # An editable install imports from src: the files must lie there.
            for source, target in files.items():
                if not target.startswith("resay/"):
                    continue
                place = root / "src" / target
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, place)
        else:
            build_data["force_include"].update(files)
        build_data["shared_scripts"][str(command)] = "resay"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform((library, command, trampoline))}"


def _cargo(rust):
    """Builds command and library: the directories that they are in."""
    cargo = os.environ.get("CARGO", "cargo")
    if shutil.which(cargo) is None:
        raise Failure(
            "there is no ready wheel for this machine, and building one needs Rust 1.89 or later. "
            "Install it from https://rustup.rs or with your system's packages, and try again."
        )
    profile = os.environ.get("RESAY_CARGO_PROFILE", "dist")
    # The command without TLS, which would take as much room as all the rest, and without `resay top`.
    features = ["--no-default-features", "--features", "resay/default"]
    # And its engine as small as it gets: it serves and loads tests. What programs use is the library.
    small = ["--config", 'profile.dist.package.resay.opt-level="s"'] if profile == "dist" else []
    _run_cargo(rust, "build", "--profile", profile, "--package", "resay-cli", *small, *features)
    # Alone and in a directory of its own, as `cargo xtask install` builds it: beside a library for Rust, cargo would not optimize
    # it together with what it links.
    libraries = _target(rust) / "libraries"
    alone = ["--lib", "--crate-type", "cdylib,staticlib", "--target-dir", str(libraries)]
    _run_cargo(rust, "rustc", "--profile", profile, "--package", "resay", *alone)
    name = "debug" if profile == "dev" else profile
    return _target(rust) / name, libraries / name


def _notices(rust, path):
    """Writes the licences of what the library and the command contain of others: the file."""
    # Cargo has fetched what this machine needs. The list is made of what it knows of all packages, without the network.
    _run_cargo(rust, "fetch")
    _run_cargo(rust, "run", "--package", "xtask", "--", "notices", str(path))
    return path


def _run_cargo(rust, command, *arguments):
    cargo, environment = os.environ.get("CARGO", "cargo"), {**os.environ, "CARGO_TARGET_DIR": str(_target(rust))}
    if subprocess.run([cargo, command, "--locked", *arguments], cwd=rust, env=environment, check=False).returncode != 0:
        raise Failure("cargo has failed; its messages are above.")


def _target(rust):
    return Path(os.environ.get("CARGO_TARGET_DIR", rust / "target"))


def _strip(source, target):
    shutil.copy2(source, target)
    strip = shutil.which(os.environ.get("STRIP", "strip"))
    if strip is not None:
        subprocess.run([strip, "--strip-unneeded", str(target)], check=False)


def _compile(source, include, target):
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    if shutil.which(compiler[0]) is None:
        compiler = ["cc"]
    if shutil.which(compiler[0]) is None:
        print("resay: there is no C compiler: Python transforms will be called by ctypes", file=sys.stderr)
        return False
    flags = ["-std=gnu99", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden", f"-I{include}"]
    done = subprocess.run([*compiler, *flags, "-o", str(target), str(source)], check=False)
    if done.returncode != 0:
        raise Failure("the C compiler has failed; its messages are above.")
    return True


def _platform(files):
    """The platform in the wheel's name: by PEP 600 the newest version of glibc that a symbol asks for."""
    named = os.environ.get("RESAY_WHEEL_PLATFORM")
    if named:
        return named
    machine = os.uname().machine
    needed = [
        int(version) for file in files if file.exists() for version in re.findall(rb"GLIBC_2\.(\d+)", file.read_bytes())
    ]
    return f"manylinux_2_{max(17, *needed)}_{machine}" if needed else f"linux_{machine}"
