"""The one exception for what a user can fix."""


class UserError(Exception):
    """A mistake in the configuration, the command or the files, said in one sentence.

    The sentence names the field or the file and the way out. Commands print it and exit with status 2.
    """
