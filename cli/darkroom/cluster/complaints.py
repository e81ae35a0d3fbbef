"""What kubectl says when it fails, as one sentence and the fix. Pure."""

import re
from dataclasses import dataclass
from typing import Final

HELM_INSTALL: Final = (
    "helm install darkroom charts/darkroom --namespace darkroom-system --create-namespace"
)

HELM_UPGRADE: Final = (
    "helm upgrade darkroom charts/darkroom --namespace darkroom-system --reuse-values"
)

_NETWORK: Final = "check the network or VPN, KUBECONFIG and --context"


@dataclass(frozen=True)
class _Cause:
    """One kind of failure."""

    pattern: str
    """Occurs in what kubectl says about it."""

    fix: str
    """What to do about it; may name the pattern's groups, as `words` do."""

    words: str = ""
    """What is wrong, with the pattern's groups and the server; kubectl's own words when empty."""


_CAUSES: Final = (
    # What the API server says comes first: a policy's answer may name a network failure of its own.
    _Cause(
        r"failed calling webhook",
        "an admission webhook of the cluster does not answer: ask its administrator",
    ),
    _Cause(r"denied (the )?request", "change what the cluster's policy names"),
    _Cause(
        r"unable to create new content in namespace (\S+) because it is being terminated",
        "use another namespace, or wait until it is gone and create it anew",
        "namespace {0} is being deleted and takes nothing new",
    ),
    _Cause(r"exceeded quota", "delete what is no longer needed, or ask for a larger quota"),
    _Cause(
        r'namespaces "([^"]+)" not found',
        "create it: kubectl create namespace {0}; or give another one with --namespace",
        "namespace {0} does not exist",
    ),
    _Cause(
        r"have a resource type|no matches for kind",
        f"install darkroom on it: {HELM_INSTALL}",
        "this cluster knows no PersonalizationJobs",
    ),
    _Cause(
        r"\.?(\S+): field not declared in schema",
        f"leave it out, or update the cluster's darkroom, which is older: {HELM_UPGRADE}",
        "the cluster knows no field {0}",
    ),
    _Cause(r"with \d+ conflicts?:", "keep them as they are, or take them over with --force"),
    _Cause(
        r'(\S+ "[^"]+")(?:: the object has been modified|: uid mismatch| already exists)',
        "try again",
        "somebody else has changed {0} just now",
    ),
    _Cause(
        r'https?://([^/"]+)/containerLogs/',
        "see whether the node is ready: kubectl get nodes",
        "the node at {0} does not hand out the logs of its pods",
    ),
    _Cause(r"Forbidden|forbidden", "ask the cluster's administrator for the right"),
    # The way to the API server.
    _Cause(
        r"(?s)localhost:8080.*refused|no configuration has been provided",
        "name a kubeconfig with a current context in KUBECONFIG, or give --context",
        "kubectl knows no cluster",
    ),
    _Cause(
        r'context (?:"|was not found for specified context: )([^"\s]+)',
        "kubectl config get-contexts lists those there are",
        "the kubeconfig has no context {0}",
    ),
    _Cause(
        r'loading config file "([^"]+)": (.+)',
        "correct the file, or name another one in KUBECONFIG",
        "the kubeconfig {0} can't be read: {1}",
    ),
    _Cause(r"unable to read .* for .* due to", "correct the file's path in the kubeconfig"),
    _Cause(
        r"exec: executable (\S+) not found",
        "install it, and put it on PATH",
        "the kubeconfig logs in with {0}, which is not installed",
    ),
    _Cause(
        r"exec: executable (\S+) failed",
        "log in again; kubectl cluster-info shows what {0} says",
        "the kubeconfig's login with {0} has failed",
    ),
    _Cause(
        r"provide credentials|must be logged in|Unauthorized|enter Username",
        "log in to the cluster again",
        "the API server{server} does not accept the login: there is none, or it has expired",
    ),
    _Cause(
        r"x509: ([^;\n]+)",
        "get the cluster's kubeconfig anew, or choose another with KUBECONFIG or --context",
        "the certificate of the API server{server} is not trusted: {0}",
    ),
    _Cause(
        r"lookup (\S+?)(?: on \S+)?: ",
        _NETWORK,
        "the name of the API server, {0}, is not found",
    ),
    _Cause(
        r"connection refused|was refused",
        "check that the cluster runs, and KUBECONFIG and --context",
        "the API server{server} refuses connections",
    ),
    _Cause(
        r"(i/o|handshake|Client\.)\s?[Tt]imeout|deadline exceeded|timed out",
        _NETWORK,
        "the API server{server} does not answer in time",
    ),
    _Cause(
        r"connection reset|no route to host|network is unreachable|Unable to connect",
        _NETWORK,
        "the API server{server} can't be reached",
    ),
    _Cause(
        r"looking for beginning of value|wire-format|server gave HTTP response",
        "check KUBECONFIG and --context, and proxies on the way",
        "what answers{server} is no Kubernetes API server",
    ),
    _Cause(
        r"unable to handle the request|prevented the request from succeeding",
        "try again in a minute, or ask the cluster's administrator",
        "the API server{server} has a fault of its own",
    ),
    _Cause(r"waiting to start|ContainerCreating", "wait for its pods: darkroom describe tells"),
)
"""The first one counts."""

_LOG: Final = re.compile(r"^[EWI]\d{4} (?:.*err=<\n(?s:.*?)^ >$|.*$)", re.MULTILINE)
"""kubectl's own log, whose errors may take several lines."""

_ASIDES: Final = re.compile(r"^(Warning:|Defaulted container).*$", re.MULTILINE)

_ADVICE: Final = re.compile(
    r"; if you choose to ignore these errors, turn validation off with --validate=false"
    r"|^Please review the fields above(?s:.*)|^ensure CRDs are installed first$",
    re.MULTILINE,
)
"""kubectl's advice: without validation a job's misspelt fields would be dropped in silence."""

_PREFIXES: Final = re.compile(
    r'^(?:error: )?(?:Error from server(?: \(\w+\))?: )?(?:error (?:when )?\w+ "STDIN": )?'
)

_SERVER: Final = re.compile(r'connection to the server (\S+) was|https?://([^/"\s\\]+)')


def is_not_found(complaint: str) -> bool:
    """Whether it says that there is no object of that name."""
    text = _essence(complaint)
    return text.startswith("Error from server (NotFound)") and '" not found' in text


def explained(complaint: str) -> str:
    """The sentence and the fix."""
    text = _essence(complaint)
    found = _SERVER.search(text)
    server = f" {found[1] or found[2]}" if found else ""
    for cause in _CAUSES:
        if match := re.search(cause.pattern, text):
            words, fix = (
                part.format(*match.groups(), server=server) for part in (cause.words, cause.fix)
            )
            return f"{words or _quoted(text)}; {fix}"
    return _quoted(text)


def _essence(complaint: str) -> str:
    for pattern in (_LOG, _ASIDES, _ADVICE):
        complaint = pattern.sub("", complaint)
    return complaint.strip()


def _quoted(text: str) -> str:
    """What it says, without what it puts in front of everything."""
    return f"kubectl: {_PREFIXES.sub('', text).rstrip('.')}"
