"""What can go wrong in the sandbox itself, as opposed to in the program that runs in it."""


class SandboxError(Exception):
    """The world cannot be built or changed as asked: what is wrong, and what a person can do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


class ReplyError(Exception):
    """A server answered a command with an error, whose first word is the code."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = message.partition(" ")[0]
