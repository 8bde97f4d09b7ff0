"""What can go wrong in the sandbox itself, as opposed to in the program under test."""


class SandboxError(Exception):
    """The world cannot be built or changed as asked.

    Attributes:
        problem: What is wrong, naming the thing.
        remedy: What a person can do about it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        """Keep both halves of the message apart for whoever formats it."""
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


class ReplyError(Exception):
    """A server answered a command with an error.

    Attributes:
        code: First word of the error, such as ``MOVED`` or ``NOAUTH``.
    """

    def __init__(self, message: str) -> None:
        """Take the message as the server sent it."""
        super().__init__(message)
        self.code = message.partition(" ")[0]
