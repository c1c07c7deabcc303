"""Heads of a known cost, and the command that compares two revisions of them."""

import subprocess

from bench.versus import __main__ as command

TORCH = '''
"""As much of torch as a player asks for, loaded at once."""
import contextlib

class no_grad(contextlib.ContextDecorator):
    __enter__ = __exit__ = lambda *_: None

class Leaf:
    grad = None
    unbind = lambda self: [self]

device = lambda name: contextlib.nullcontext()
get_num_threads = lambda: 1
manual_seed = set_num_threads = print
randint = randn = lambda *_, **__: Leaf()
'''

HEADS = """
import time

MILLISECONDS = {"first": 1, "second": 1}

class Head:
    def __init__(self, milliseconds):
        self.loss, self.milliseconds = self, milliseconds
        print("a head may say what it likes")

    def spin(self, *_):
        end = time.process_time() + 1e-3 * self.milliseconds
        while time.process_time() < end:
            pass
        return self

    __call__ = predict = spin
    backward = parameters = train = lambda self, *_: []

names = lambda: tuple(MILLISECONDS)
build = lambda name, in_features, num_classes: Head(MILLISECONDS[name])
"""


def git(folder, *arguments):
    subprocess.run(
        ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
        check=True,
        capture_output=True,
    )


def change(folder, old, new):
    path = folder / "heads" / "__init__.py"
    path.write_text(path.read_text().replace(old, new))


def versus(*arguments, heads="first,second", minutes="0.01"):
    return command.main(
        [*arguments, "--heads", heads, "--phases", "train", "--classes", "16", "--minutes", minutes]
    )
