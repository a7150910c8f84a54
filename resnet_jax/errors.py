"""The one exception for what a user can fix."""


class UserError(Exception):
    """A mistake in the configuration, the command or the files; its message names it and the way out.

    The sentence names the field or the file and the way out. Commands print it and exit with status 2.
    """
