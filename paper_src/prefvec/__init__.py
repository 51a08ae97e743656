"""prefvec: does a preference vector found in one language model steer another?"""

__version__ = "0.1.0"
