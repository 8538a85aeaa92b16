"""Everything we raise on purpose. The message names the thing, the value and the remedy.

ClawlamaError
├── SettingsError       the configuration does not parse
├── MachineError        this machine lacks something we need: a port, disk space, a writable folder
│   ├── NodeMissing     no Node that OpenClaw can run on
│   └── OpenClawMissing no OpenClaw to start
├── AlreadyRunning      another supervisor holds this data folder
├── NotRunning          the command needs a running supervisor and found none
├── RenderError         a template or a rendered file is not valid
├── ServiceError        a supervised process misbehaved
│   ├── NotReady        no answer to its probe in time
│   ├── CrashLoop       died too often to be restarted
│   ├── UnknownService  there is none of that name
│   └── NothingLogged   there is no log of that name
├── GatewayError        OpenClaw could not be asked, or could not answer
├── EngineError         an inference engine refused or broke
│   ├── UnknownModel    a request names a model that is not served
│   ├── StillPreparing  the model is not ready yet; says what is being done
│   ├── PullFailed      a model cannot be downloaded
│   ├── StoreError      a model in Ollama's folder is missing, unreadable or of a kind that we cannot use
│   ├── RouteRefused    one way to give Ollama an adapter version does not work here; another may
│   └── NotServed       the engine says that it serves a version, and its probabilities say that it does not
├── RequestError        a request to the API cannot be served as it stands; names its HTTP status
├── JournalError        the journal cannot be opened, read or written
│   └── NoSuchEntry     an id names nothing in the journal
├── AdapterError        an adapter version is missing, broken or of another base
├── PackError           what a GPU needs cannot be downloaded or installed
├── BackupError         a backup cannot be made or put back
│   └── BrokenArchive   an archive is cut short, damaged, or not one that we would write
└── DistillError        training or conversion failed
    ├── DistillFailed   the trainer ended without a result
    │   └── TrainerKilled   it was killed: its work may go well another time
    └── GgufError       a model or adapter cannot be written as GGUF
"""


class ClawlamaError(Exception):
    """Base of the tree; ``str()`` of it is fit to show to a person."""

    exit_code = 1  # of a command that ends with it


class SettingsError(ClawlamaError):
    pass


class MachineError(ClawlamaError):
    pass


class NodeMissing(MachineError):
    pass


class OpenClawMissing(MachineError):
    pass


class AlreadyRunning(ClawlamaError):
    pass


class NotRunning(ClawlamaError):
    pass


class RenderError(ClawlamaError):
    pass


class ServiceError(ClawlamaError):
    """``exit_code``: that of the process, as a shell gives it; 1 when it has none that tells of a failure."""

    def __init__(self, service: str, problem: str, *, exit_code: int = 1) -> None:
        super().__init__(f"{service}: {problem}")
        self.service = service
        self.exit_code = exit_code


class NotReady(ServiceError):
    pass


class CrashLoop(ServiceError):
    pass


class UnknownService(ServiceError):
    def __init__(self, service: str, known: tuple[str, ...]) -> None:
        super().__init__(service, f"there is no service of that name; known: {', '.join(known) or 'none'}")


class NothingLogged(ServiceError):
    def __init__(self, service: str, known: tuple[str, ...]) -> None:
        super().__init__(service, f"has logged nothing; these have: {', '.join(known) or 'none'}")


class GatewayError(ClawlamaError):
    pass


class EngineError(ClawlamaError):
    pass


class UnknownModel(EngineError):
    def __init__(self, model: str, known: tuple[str, ...]) -> None:
        super().__init__(f"model {model!r} is not served here; use one of: {', '.join(known)}")
        self.model = model


class StillPreparing(EngineError):
    def __init__(self, doing: str) -> None:
        super().__init__(f"the model is not ready yet: {doing}; ask again in a moment")


class PullFailed(EngineError):
    pass


class StoreError(EngineError):
    pass


class RouteRefused(EngineError):
    pass


class NotServed(EngineError):
    pass


class RequestError(ClawlamaError):
    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status


class JournalError(ClawlamaError):
    pass


class NoSuchEntry(JournalError):
    def __init__(self, kind: str, entry: str) -> None:
        super().__init__(f"there is no {kind} {entry!r} in the journal")


class AdapterError(ClawlamaError):
    pass


class BackupError(ClawlamaError):
    pass


class BrokenArchive(BackupError):
    pass


class PackError(ClawlamaError):
    pass


class DistillError(ClawlamaError):
    pass


class DistillFailed(DistillError):
    def __init__(self, job: str, problem: str) -> None:
        super().__init__(f"lesson {job}: {problem}")
        self.job = job


class TrainerKilled(DistillFailed):
    pass


class GgufError(DistillError):
    pass
