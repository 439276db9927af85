"""Packaging.  The tools' settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
source = (here / "huey_patient/version.py").read_text()
version = re.search(r'__version__ = "([^"]+)"', source).group(1)

EXTRAS = {
    # Older versions cannot limit what one call decodes to.
    "brotli": ["brotli>=1.2"],
    "fsspec": ["fsspec>=2024.10"],
    "postgres": ["psycopg[binary]>=3.2.4"],
    "s3": ["s3fs>=2024.10"],
    "uvloop": ["uvloop>=0.21"],
}

setup(
    name="huey_patient",
    version=version,
    description="Slow HTTP calls for Huey, without holding a worker",
    long_description=(here / "README.rst").read_text(),
    long_description_content_type="text/x-rst",
    license="MIT",
    packages=find_packages(include=["huey_patient", "huey_patient.*"]),
    package_data={"huey_patient": ["py.typed"], "huey_patient.stores": ["lua/*.lua"]},
    python_requires=">=3.11",
    install_requires=[
        "huey>=3.5.2,<4",
        "redis>=5.0",
        # Below 3.14.5 a hostile server can stall or fill the client: see ARCHITECTURE.rst.
        "aiohttp>=3.14.5,<4",
        "orjson>=3.10",
        "zstandard>=0.23",
        "pynacl>=1.5",
    ],
    extras_require={
        **EXTRAS,
        "dev": [
            *EXTRAS["brotli"],
            *EXTRAS["fsspec"],
            *EXTRAS["postgres"],
            *EXTRAS["s3"],
            *EXTRAS["uvloop"],
            "botocore>=1.35",
            "docutils>=0.21",
            "fakellm>=0.3.5",
            "gevent>=23.9",
            "gunicorn>=23",
            "httpbin>=0.10.2",
            "hypothesis>=6.100",
            "import-linter>=2.1",
            # An S3 server for the tests of payload stores.
            "moto[server]>=5.0",
            "mypy>=1.14",
            "pytest>=8.3",
            "pytest-randomly>=3.16",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "ruff>=0.9",
            "standardwebhooks>=1.0",
            "trustme>=1.2",
        ],
    },
    entry_points={"console_scripts": ["huey_patient = huey_patient.cli:main"]},
    classifiers=[
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Typing :: Typed",
    ],
)
