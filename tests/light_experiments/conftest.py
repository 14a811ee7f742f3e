"""What the light experiments run on."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from chaos.stack import Stack
from tests.light_stack import in_containers, light_stack, on_disks


@pytest.fixture
def stack(request: pytest.FixtureRequest) -> Stack:
    """Four tiny services in two rooms. LIGHT_IMAGE names an image that lies there already."""
    if request.config.getoption("--runtime") != "docker":
        return on_disks(light_stack())
    stack = in_containers(light_stack())
    image = os.environ.get("LIGHT_IMAGE")
    return replace(stack, image=("echo", image)) if image else stack
