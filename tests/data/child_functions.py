"""What libraries do with damaged files, for the tests of the process that they run in."""

import os
import time


def give(path, value):
    return value, os.getpid()


def hang(path):
    while True:
        pass


def crash(path):
    os.abort()


def fill(path, size):
    data = b"x" * size
    time.sleep(60)  # until somebody looks
    return data


def fail(path):
    print("a library says something")
    os.write(1, b"and more")
    raise ValueError("no such thing")
