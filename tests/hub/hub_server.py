"""A small server on localhost that speaks the Hub's HTTP API, for tests of the real ``huggingface_hub`` client.

No maintained package offers one (PyPI's hf-local-hub ships a command line without its server). It keeps everything in
memory and knows what this project needs: creating repositories, preupload, commits of regular and LFS files, branches
and pull requests, info, tree, resolve with ETag and Range, and the answers for private, gated and missing things.
Faults can be injected: a status, a cut connection, a body that is too short.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LFS_SUFFIXES = (".safetensors", ".png", ".glb")


@dataclass
class Repo:
    private: bool = False
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    pull_requests: int = 0

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        oid = hashlib.sha1(f"{len(self.commits)} {branch} {sorted(files)} {time.time_ns()}".encode()).hexdigest()
        self.commits[oid] = files
        self.branches[branch] = oid
        return oid


@dataclass
class Fault:
    """Applied to the next ``times`` requests whose "METHOD path" matches ``pattern``."""

    pattern: str
    times: int = 1
    status: int = 0
    cut_after: int | None = None
    """Close the connection after this many bytes of the body."""
    drop_bytes: int = 0
    """Send a body, with a fitting Content-Length, that lacks its last bytes."""
    delay_s: float = 0.0


@dataclass(frozen=True)
class Logged:
    method: str
    path: str
    status: int
    range: str | None
    token: str | None
    user_agent: str


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that were killed are part of the tests."""


class HubServer:
    """``with HubServer(tokens={"token": "user"}) as hub: ... hub.url``"""

    def __init__(self, tokens: dict[str, str]) -> None:
        self.tokens = tokens
        self.repos: dict[str, Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.log: list[Logged] = []
        self.lock = threading.RLock()
        server = self

        class Handler(_Handler):
            hub = server

        self._http = _QuietServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self.cdn_url = f"http://localhost:{self._http.server_port}"  # another host, as the Hub's is

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.shutdown()

    def requests(self, pattern: str) -> list[Logged]:
        return [entry for entry in self.log if re.search(pattern, f"{entry.method} {entry.path}")]

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        repo = self.repos[repo_id]
        return repo.commits[repo.branches[revision]]


class _Answer(Exception):
    """An HTTP error with the headers that the client reads."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def is_lfs(path: str) -> bool:
    return path.endswith(LFS_SUFFIXES)


def etag_of(path: str, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if is_lfs(path) else git_oid(data)


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    ROUTES = (
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate_yaml"),
        ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)(/revision/(?P<rev>[^/]+))?", "info"),
        ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<rev>[^/]+)", "tree"),
        ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)/refs", "refs"),
        ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/branch/(?P<rev>[^/]+)", "branch"),
        ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/(?P<rev>[^/]+)", "preupload"),
        ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/(?P<rev>[^/]+)", "commit"),
        ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "lfs_batch"),
        ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/verify", "lfs_verify"),
        ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "lfs_put"),
        ("GET|HEAD", r"/cdn/(?P<oid>[0-9a-f]{64})", "cdn"),
        ("GET|HEAD", r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)", "resolve"),
    )

    # -- dispatch ------------------------------------------------------------------------------------------------

    def _handle(self) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else b""
        self.fault = self._next_fault(f"{self.command} {url.path}")
        if self.fault is not None and self.fault.delay_s:
            time.sleep(self.fault.delay_s)
        try:
            if self.fault is not None and self.fault.status:
                raise _Answer(self.fault.status, message="injected")
            for methods, pattern, name in self.ROUTES:
                match = re.fullmatch(pattern, url.path)
                if match and self.command in methods.split("|"):
                    arguments = {k: unquote(v) for k, v in match.groupdict().items() if v is not None}
                    with self.hub.lock:
                        send = getattr(self, f"on_{name}")(**arguments)
                    send()
                    return
            raise _Answer(404, message=f"no route for {self.command} {url.path}")
        except _Answer as answer:
            headers = {"X-Error-Message": answer.message}
            if answer.code:
                headers["X-Error-Code"] = answer.code
            self._send(answer.status, json.dumps({"error": answer.message}).encode(), headers)

    do_GET = do_HEAD = do_POST = do_PUT = _handle

    def _next_fault(self, request: str) -> Fault | None:
        with self.hub.lock:
            for fault in self.hub.faults:
                if fault.times > 0 and re.search(fault.pattern, request):
                    fault.times -= 1
                    return fault
        return None

    def _send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        fault = self.fault
        if fault is not None and fault.drop_bytes and status < 300:
            body = body[: -fault.drop_bytes]
        self.hub.log.append(
            Logged(
                self.command,
                urlsplit(self.path).path,
                status,
                self.headers.get("Range"),
                self._token(),
                self.headers.get("User-Agent", ""),
            )
        )
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is not None and fault.cut_after is not None and status < 300:
            self.wfile.write(body[: fault.cut_after])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(body)

    def _json(self, data: object, status: int = 200):
        body = json.dumps(data).encode()
        return lambda: self._send(status, body, {"Content-Type": "application/json"})

    def log_message(self, *args: object) -> None:
        pass

    # -- who may do what -----------------------------------------------------------------------------------------

    def _token(self) -> str | None:
        header = self.headers.get("Authorization", "")
        return header.removeprefix("Bearer ") or None

    def _user(self) -> str | None:
        token = self._token()
        if token is not None and token not in self.hub.tokens:
            raise _Answer(401, message="Invalid credentials in Authorization header")
        return self.hub.tokens.get(token)

    def _repo(self, repo: str, *, write: bool = False, content: bool = False) -> Repo:
        user = self._user()
        found = self.hub.repos.get(repo)
        owner = repo.split("/")[0] == user
        if found is None or (found.private and not owner):
            raise _Answer(401 if user is None else 404, "RepoNotFound", "Repository not found")
        if write and not owner and "create_pr" not in self.query:
            raise _Answer(403, message="You don't have the rights to write to this repository")
        if content and found.gated and not owner:
            raise _Answer(401 if user is None else 403, "GatedRepo", f"Access to model {repo} is restricted")
        return found

    def _commit(self, repo: Repo, rev: str) -> str:
        oid = repo.branches.get(rev, rev)
        if oid not in repo.commits:
            raise _Answer(404, "RevisionNotFound", f"Invalid rev id: {rev}")
        return oid

    # -- the API -------------------------------------------------------------------------------------------------

    def on_create(self):
        data = json.loads(self.body)
        user = self._user()
        if user is None:
            raise _Answer(401, message="Invalid username or password.")
        owner = data.get("organization") or user
        if owner != user:
            raise _Answer(403, message=f"You don't have the rights to create a model under the namespace {owner}")
        repo_id = f"{owner}/{data['name']}"
        answer = {"url": f"{self.hub.url}/{repo_id}", "name": repo_id, "id": repo_id}
        if repo_id in self.hub.repos:
            return self._json({**answer, "error": "You already created this model repo"}, 409)
        repo = Repo(private=data.get("visibility") == "private" or bool(data.get("private")))
        repo.commit("main", {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        self.hub.repos[repo_id] = repo
        return self._json(answer)

    def on_validate_yaml(self):
        content = json.loads(self.body)["content"]
        match = re.match(r"---\n(.*?)\n---", content, re.DOTALL)
        try:
            data = yaml.safe_load(match.group(1)) if match else None
            errors = [] if data is None or isinstance(data, dict) else ["metadata must be a mapping"]
        except yaml.YAMLError as error:
            errors = [str(error)]
        return self._json({"errors": [{"message": e} for e in errors], "warnings": []}, 400 if errors else 200)

    def on_info(self, repo: str, rev: str = "main"):
        found = self._repo(repo)
        oid = self._commit(found, rev)
        siblings = [{"rfilename": path} for path in sorted(found.commits[oid])]
        gated = "manual" if found.gated else False
        return self._json({"id": repo, "sha": oid, "private": found.private, "gated": gated, "siblings": siblings})

    def on_tree(self, repo: str, rev: str):
        found = self._repo(repo)
        entries = []
        for path, data in sorted(found.commits[self._commit(found, rev)].items()):
            entry = {"type": "file", "path": path, "size": len(data), "oid": git_oid(data)}
            if is_lfs(path):
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            entries.append(entry)
        return self._json(entries)

    def on_refs(self, repo: str):
        found = self._repo(repo)
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": oid} for name, oid in found.branches.items()
        ]
        return self._json({"branches": branches, "tags": [], "converts": []})

    def on_branch(self, repo: str, rev: str):
        found = self._repo(repo, write=True)
        if rev in found.branches:
            raise _Answer(409, message=f"Branch {rev} already exists")
        found.branches[rev] = found.branches["main"]
        return self._json({})

    def on_preupload(self, repo: str, rev: str):
        found = self._repo(repo, write=True)
        current = found.commits[self._commit(found, rev)]
        files = []
        for entry in json.loads(self.body)["files"]:
            path = entry["path"]
            mode = {"path": path, "uploadMode": "lfs" if is_lfs(path) else "regular", "shouldIgnore": False}
            if path in current:
                mode["oid"] = etag_of(path, current[path])
            files.append(mode)
        return self._json({"files": files})

    def on_lfs_batch(self, repo: str):
        self._repo(repo)
        if self._user() is None:
            raise _Answer(401, message="Invalid username or password.")
        objects = []
        for entry in json.loads(self.body)["objects"]:
            answer = {"oid": entry["oid"], "size": entry["size"]}
            if entry["oid"] not in self.hub.lfs:
                answer["actions"] = {
                    "upload": {"href": f"{self.hub.url}/lfs/{entry['oid']}"},
                    "verify": {"href": f"{self.hub.url}/{repo}.git/info/lfs/verify"},
                }
            objects.append(answer)
        return self._json({"transfer": "basic", "objects": objects})

    def on_lfs_put(self, oid: str):
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise _Answer(400, message="the content does not have this hash")
        self.hub.lfs[oid] = self.body
        return lambda: self._send(200)

    def on_lfs_verify(self, repo: str):
        data = json.loads(self.body)
        if len(self.hub.lfs.get(data["oid"], b"")) != data["size"]:
            raise _Answer(404, message="no such object")
        return self._json({})

    def on_commit(self, repo: str, rev: str):
        found = self._repo(repo, write=True)
        files = dict(found.commits[self._commit(found, rev)])
        for line in self.body.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
            elif key != "header":
                raise _Answer(400, message=f"unknown operation {key}")
        answer = {}
        if "create_pr" in self.query:
            found.pull_requests += 1
            rev = f"refs/pr/{found.pull_requests}"
            answer["pullRequestUrl"] = f"{self.hub.url}/{repo}/discussions/{found.pull_requests}"
        oid = found.commit(rev, files)
        return self._json({"commitOid": oid, "commitUrl": f"{self.hub.url}/{repo}/commit/{oid}", **answer})

    def on_resolve(self, repo: str, rev: str, path: str):
        found = self._repo(repo, content=True)
        oid = self._commit(found, rev)
        if path not in found.commits[oid]:
            raise _Answer(404, "EntryNotFound", "Entry not found")
        data = found.commits[oid][path]
        headers = {"X-Repo-Commit": oid, "Accept-Ranges": "bytes", "ETag": f'"{git_oid(data)}"'}
        if not is_lfs(path):
            return lambda: self._content(data, headers)
        sha256 = hashlib.sha256(data).hexdigest()
        self.hub.lfs[sha256] = data
        headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(data))}
        headers["Location"] = f"{self.hub.cdn_url}/cdn/{sha256}"
        return lambda: self._send(302, b"", headers)

    def on_cdn(self, oid: str):
        if oid not in self.hub.lfs:
            raise _Answer(404, message="no such object")
        data = self.hub.lfs[oid]
        return lambda: self._content(data, {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"})

    def _content(self, data: bytes, headers: dict[str, str]) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if match is None:
            return self._send(200, data, headers)
        start, end = int(match[1]), int(match[2] or len(data) - 1)
        headers = {**headers, "Content-Range": f"bytes {start}-{end}/{len(data)}"}
        return self._send(206, data[start : end + 1], headers)
