"""Errors a reader can act on: one line that names the thing at fault and the fix."""


class PrefvecError(Exception):
    """Base of every error that prefvec raises on purpose.

    The message is one readable line. The command line prints it without a traceback and
    exits with `exit_code`.
    """

    exit_code = 2


class ConfigError(PrefvecError):
    """A profile, parameter or registry entry is wrong."""


class ModelError(PrefvecError):
    """A model can't be found, read or hooked."""


class FetchError(PrefvecError):
    """A file could not be fetched, or is not the file it should be."""

    exit_code = 3


class TraitError(PrefvecError):
    """A trait, task or prompt file is malformed, or its splits overlap."""


class VectorError(PrefvecError):
    """A steering vector does not fit the model or layer it is used with."""


class ReportError(PrefvecError):
    """A number, table or figure of the paper has no source, or two."""


class EndpointError(PrefvecError):
    """A server of text (a judge, a black box) can't be reached, started or used."""

    exit_code = 3
