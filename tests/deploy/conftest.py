"""What the tests of `deploy/` share."""

import shutil

import pytest
from tests.deploy.images import TOOLS, built_images


@pytest.fixture(scope="session")
def images(missing):
    """The platform's images and stand-ins for the images of others."""
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lacking:
        missing(f"These are not installed: {', '.join(lacking)}")
    with built_images() as found:
        yield found
