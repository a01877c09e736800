"""The programs in the folder examples, as modules."""

import importlib.util
import sys

from helpers.places import EXAMPLES


def load(name):
    """Import an example anew."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run(name, *arguments):
    """Do what the command line does."""
    load(name).main([str(argument) for argument in arguments])
