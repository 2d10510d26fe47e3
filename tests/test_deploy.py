"""The deployment files: valid by their schemas, and of one mind with each other and with the service."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement
from prometheus_client.metrics import MetricWrapperBase

from serving import metrics
from serving.settings import PREFIX, load_settings

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docker-compose.yaml"
GPU = ROOT / "deploy/docker-compose.gpu.yaml"
PROXY = ROOT / "deploy/docker-compose.proxy.yaml"
KUBERNETES = ROOT / "deploy/kubernetes"
BASE, CPU, NVIDIA = (KUBERNETES / name for name in ("base", "overlays/cpu", "overlays/gpu"))
INGRESS = KUBERNETES / "components/ingress"
KUSTOMIZATIONS = (BASE, CPU, NVIDIA, INGRESS)
README = ROOT / "deploy/README.md"
PROMETHEUS = ROOT / "deploy/prometheus"
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))
KUBERNETES_VERSIONS = ("1.25", kubernetes_validate.latest_version())  # the oldest that the base names, the newest

Document = dict[str, Any]


def load(path: Path) -> Document:
    document: Document = yaml.safe_load(path.read_text())
    return document


def resources(kustomization: Path) -> list[Document]:
    """The manifests in a kustomization's own files, as they are written."""
    names = load(kustomization / "kustomization.yaml")["resources"]
    files = [kustomization / name for name in names if name.endswith(".yaml")]
    return [manifest for file in files for manifest in yaml.safe_load_all(file.read_text())]


def manifests() -> dict[str, Document]:
    """Kind to manifest: the base's and the CPU overlay's."""
    return {manifest["kind"]: manifest for manifest in (*resources(BASE), *resources(CPU))}


def rendered(overlay: Path) -> dict[str, Document]:
    """Kind to manifest, as kustomize makes them."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed (Debian: package kubernetes-client)")
    done = subprocess.run(("kubectl", "kustomize", overlay), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # it warns of what is deprecated
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(done.stdout)}


def container(deployment: Document | None = None) -> Document:
    """The pod's one container; ``deployment``: the base's."""
    deployment = deployment or manifests()["Deployment"]
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def rules() -> dict[str, Document]:
    """Alert to rule."""
    groups = load(PROMETHEUS / "alerts.yml")["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def environments() -> dict[str, dict[str, str]]:
    """What Compose and Kubernetes set in the service's environment."""
    compose = load(COMPOSE)["services"]["sisa"]["environment"]
    return {
        "compose": {name: value for name, value in compose.items() if value is not None},
        "kubernetes": {entry["name"]: entry["value"] for entry in container()["env"] if "value" in entry},
    }


def exported() -> dict[str, frozenset[str]]:
    """Every series that the service exports, as PromQL names it, to its labels."""
    series: dict[str, frozenset[str]] = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            labels = frozenset(metric._labelnames)
            if family.type == "histogram":
                series[f"{family.name}_bucket"] = labels | {"le"}
            suffixes = {"counter": ["_total"], "histogram": ["_sum", "_count"], "gauge": [""]}[family.type]
            series |= {family.name + suffix: labels for suffix in suffixes}
    return series


SELECTOR = re.compile(r"(?P<metric>[a-zA-Z_]\w*)(?P<matchers>\{[^}]*\})?(?!\w*\s*\()")
LABEL_LIST = re.compile(r"\b(?:by|on|group_left|group_right|without|ignoring)\s*\(([^)]*)\)")


def selectors(expression: str) -> list[tuple[str, dict[str, str]]]:
    """Every (metric, label to matched text) of a PromQL expression."""
    bare = re.sub(r"\[\w+\]", "", LABEL_LIST.sub("", expression))
    words = ((found["metric"], found["matchers"] or "") for found in SELECTOR.finditer(bare))
    return [
        (word, dict(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', matchers)))
        for word, matchers in words
        if word not in ("and", "or", "unless")
    ]


def check_schema(schema: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, paths))
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def served() -> Document:
    """The service's paths and its image's user, from another process: importing BentoML warns, an error in this one."""
    program = (
        "import json, bentoml._internal.container.generate as image, serving.openapi as api\n"
        "print(json.dumps({'paths': list(api.openapi(None, 1)['paths']), 'user': image.BENTO_UID_GID}))"
    )
    done = subprocess.run((sys.executable, "-c", program), cwd=ROOT, capture_output=True, text=True, check=True)
    document: Document = json.loads(done.stdout)
    return document


# --- Schemas


@pytest.mark.parametrize(
    ("schema", "paths"), [("vendor.compose-spec", [COMPOSE, GPU, PROXY]), ("vendor.github-workflows", WORKFLOWS)]
)
def test_compose_files_and_workflows_are_valid(schema: str, paths: list[Path]) -> None:
    done = check_schema(schema, *paths)
    assert done.returncode == 0, done.stdout


def test_a_misspelt_key_in_the_compose_file_would_be_found(tmp_path: Path) -> None:
    misspelt = tmp_path / "docker-compose.yaml"
    misspelt.write_text(COMPOSE.read_text().replace("read_only:", "readonly:"))
    assert "'readonly' was unexpected" in check_schema("vendor.compose-spec", misspelt).stdout


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_the_kubernetes_manifests_are_valid_and_have_no_unknown_key(version: str) -> None:
    for kustomization in KUSTOMIZATIONS:
        for manifest in resources(kustomization):
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("overlay", [CPU, NVIDIA], ids=["cpu", "gpu"])
def test_what_kustomize_makes_of_an_overlay_is_valid_and_complete(overlay: Path, version: str) -> None:
    made = rendered(overlay)
    for manifest in made.values():
        kubernetes_validate.validate(manifest, version, strict=True)
    assert made.keys() == {manifest["kind"] for manifest in (*resources(BASE), *resources(overlay))}
    (image,) = load(overlay / "kustomization.yaml")["images"]
    assert container(made["Deployment"])["image"] == f"{image['newName']}:{image['newTag']}"


def test_the_gpu_overlay_adds_a_gpu_and_takes_nothing_away() -> None:
    gpu, cpu = container(rendered(NVIDIA)["Deployment"]), container(rendered(CPU)["Deployment"])
    assert [entry for entry in gpu["env"] if entry not in cpu["env"]] == [
        {"name": "SISA_SERVE_PROVIDER", "value": "cuda"}
    ]
    assert all(entry in gpu["env"] for entry in cpu["env"])
    assert gpu["resources"].pop("limits") == cpu["resources"].pop("limits") | {"nvidia.com/gpu": 1}
    assert {name for name in gpu if gpu[name] != cpu[name]} == {"env", "image"}


def test_an_overlay_takes_an_image_by_its_digest_and_the_ingress_as_a_component(tmp_path: Path) -> None:
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    overlay = tmp_path / "kubernetes/overlays/cpu"
    text = (overlay / "kustomization.yaml").read_text()
    digest = f"sha256:{'7' * 64}"
    text = text.replace("newTag: generation-7", f"digest: {digest}").replace("# components:", "components:")
    (overlay / "kustomization.yaml").write_text(text)
    made = rendered(overlay)
    assert container(made["Deployment"])["image"] == f"registry.example.org/sisa@{digest}"
    assert made.keys() >= {"Ingress", "NetworkPolicy"}


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS, ids=lambda path: path.name)
def test_a_kustomization_names_every_file_beside_it_and_nothing_else(kustomization: Path) -> None:
    """What holds without kubectl as well."""
    described = load(kustomization / "kustomization.yaml")
    patches = [patch["path"] for patch in described.get("patches", [])]
    files = [name for name in described["resources"] if name.endswith(".yaml")]
    assert sorted([*files, *patches, "kustomization.yaml"]) == sorted(path.name for path in kustomization.iterdir())
    for folder in (*(set(described["resources"]) - set(files)), *described.get("components", [])):
        assert (kustomization / folder / "kustomization.yaml").is_file()
    base = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in resources(BASE)}
    for patch in patches:
        changed = load(kustomization / patch)
        target = base[changed["kind"], changed["metadata"]["name"]]
        assert changed["apiVersion"] == target["apiVersion"]
        assert container(changed)["name"] == container(target)["name"]
    assert [image["name"] for image in described.get("images", [])] in ([], [container()["image"]])
    assert {count["name"] for count in described.get("replicas", [])} <= {name for _, name in base}


def test_the_ingress_leads_to_the_service_and_the_policy_to_its_pods() -> None:
    ingress, policy = resources(INGRESS)
    service = manifests()["Service"]
    ports = {port["name"] for port in service["spec"]["ports"]}
    for path in ingress["spec"]["rules"][0]["http"]["paths"]:
        backend = path["backend"]["service"]
        assert (backend["name"], backend["port"]["name"] in ports) == (service["metadata"]["name"], True)
    assert policy["spec"]["podSelector"]["matchLabels"] == service["spec"]["selector"]


def test_a_misspelt_key_in_the_kubernetes_manifest_would_be_found() -> None:
    deployment = manifests()["Deployment"]
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    only["readynessProbe"] = only.pop("readinessProbe")
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(deployment, KUBERNETES_VERSIONS[0], strict=True)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: package prometheus)")
@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", PROMETHEUS / "prometheus.yml"),
        ("check", "rules", PROMETHEUS / "alerts.yml"),
        ("test", "rules", ROOT / "tests/alerts.yaml"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_promtool_finds_no_fault_and_each_alert_fires_when_it_should(command: tuple[str, str, Path]) -> None:
    done = subprocess.run(("promtool", *command), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# --- One story


def test_each_alert_is_in_the_readme_and_in_the_replay() -> None:
    listed = re.findall(r"^\| `(Sisa\w+)` \| (\w+) \|", README.read_text(), re.MULTILINE)
    assert listed == [(alert, rule["labels"]["severity"]) for alert, rule in rules().items()]
    replay = load(ROOT / "tests/alerts.yaml")["tests"]
    fired = {case["alertname"] for test in replay for case in test["alert_rule_test"] if case.get("exp_alerts")}
    silent = {case["alertname"] for test in replay for case in test["alert_rule_test"] if not case.get("exp_alerts")}
    assert fired == silent == set(rules())


def test_each_alert_asks_for_what_the_service_exports(served: Document) -> None:
    series = exported() | {"up": frozenset()}
    scraped = {"job", "instance", "namespace"}  # labels that Prometheus adds
    for alert, rule in rules().items():
        found = selectors(rule["expr"])
        assert found, alert
        for metric, matched in found:
            assert metric in series, f"{alert}: {metric} is none of {sorted(series)}"
            assert set(matched) <= series[metric] | scraped, f"{alert}: {metric} has no such label"
            if "route" in matched:
                assert any(re.fullmatch(matched["route"], path) for path in served["paths"]), f"{alert}: no such route"
        listed = {label.strip() for labels in LABEL_LIST.findall(rule["expr"]) for label in labels.split(",")} - {""}
        assert listed <= {"job", "namespace", "le"}


def test_a_misspelt_metric_or_label_would_be_found() -> None:
    assert exported()["sisa_requests_total"] == {"route", "status"}
    assert selectors('sum by (job) (rate(sisa_request_total{rout=~"/v1.*"}[5m])) > on (job) up or absent(x)') == [
        ("sisa_request_total", {"rout": "/v1.*"}),
        ("up", {}),
        ("x", {}),
    ]


@pytest.mark.parametrize(("where", "models"), [("compose", Path("/models")), ("kubernetes", ROOT / "models")])
def test_the_service_understands_its_environment(where: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environments()[where].items():
        monkeypatch.setenv(name, value)
    settings = load_settings(ROOT)  # raises for a name that is none of the service's
    assert (settings.models, settings.state) == (models, Path("/state"))


def test_the_environment_sets_nothing_that_nobody_reads() -> None:
    others = {"BENTOML_HOME", "BENTOML_DO_NOT_TRACK", "ORT_DISABLE_TELEMETRY"}
    for environment in environments().values():
        assert {name for name in environment if not name.startswith(PREFIX)} == others
        assert environment["BENTOML_HOME"].startswith("/tmp/")  # writable
    compose = load(COMPOSE)["services"]["sisa"]["environment"]
    passed = [name for name, value in compose.items() if value is None]
    secrets = [entry for entry in container()["env"] if "valueFrom" in entry]
    assert passed == [secret["name"] for secret in secrets] == ["SISA_API_TOKEN", "SISA_ADMIN_TOKEN"]
    assert all(secret["valueFrom"]["secretKeyRef"]["optional"] for secret in secrets)
    assert all(f'"{name}"' in (ROOT / "serving/settings.py").read_text() for name in passed)


def test_probes_and_scrapes_ask_for_paths_that_the_service_has(served: Document) -> None:
    annotations = manifests()["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    asked = {container()[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert asked == {"/livez", "/readyz"}
    assert asked | {annotations["prometheus.io/path"]} <= set(served["paths"])


def test_a_request_that_has_begun_may_take_all_its_time_before_the_container_is_killed() -> None:
    seconds = load_settings(ROOT).timeout_seconds
    assert float(load(COMPOSE)["services"]["sisa"]["stop_grace_period"].removesuffix("s")) > seconds
    sleep, leaving = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert sleep == "sleep"
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > float(leaving) + seconds


def test_kubernetes_runs_the_image_as_the_user_that_bentoml_makes(served: Document) -> None:
    security = manifests()["Deployment"]["spec"]["template"]["spec"]["securityContext"]
    assert security["runAsNonRoot"]
    assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"] == served["user"]


def test_prometheus_scrapes_the_port_that_compose_and_kubernetes_open() -> None:
    services = load(COMPOSE)["services"]
    (publish,) = services["sisa"]["ports"]
    port = publish.rpartition(":")[2]
    config = load(PROMETHEUS / "prometheus.yml")
    assert config["scrape_configs"][0]["static_configs"] == [{"targets": [f"sisa:{port}"]}]
    assert f"127.0.0.1:{port}/" in services["sisa"]["healthcheck"]["test"][-1]
    assert [entry["containerPort"] for entry in container()["ports"]] == [int(port)]
    annotations = manifests()["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == port


def test_the_files_that_prometheus_is_given_exist() -> None:
    mounted = load(COMPOSE)["services"]["prometheus"]["volumes"]
    assert "./deploy/prometheus:/etc/prometheus:ro" in mounted
    for name in load(PROMETHEUS / "prometheus.yml")["rule_files"]:
        assert (PROMETHEUS / name).is_file()


def test_alerts_ask_for_the_job_that_is_scraped() -> None:
    (job,) = [config["job_name"] for config in load(PROMETHEUS / "prometheus.yml")["scrape_configs"]]
    asked = {name for rule in rules().values() for name in re.findall(r'job="(\w+)"', rule["expr"])}
    assert asked == {job}


def test_the_kubernetes_objects_select_one_another() -> None:
    kinds = manifests()
    deployment = kinds["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels
    assert kinds["Service"]["spec"]["selector"] == labels
    assert kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    target = kinds["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": kinds["Deployment"]["metadata"]["name"]}
    assert "replicas" not in deployment  # the autoscaler's
    names = {entry["name"] for entry in container()["ports"]}
    asked = {entry["targetPort"] for entry in kinds["Service"]["spec"]["ports"]}
    asked |= {container()[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness", "readiness")}
    assert asked == names


def test_what_a_container_is_given_is_what_it_may_write_to() -> None:
    """Everything else is read-only: state and scratch space need a place of their own."""
    service = load(COMPOSE)["services"]["sisa"]
    mounts = dict(reversed(volume.removesuffix(":ro").split(":")) for volume in service["volumes"])
    assert service["read_only"]
    assert "./models:/models:ro" in service["volumes"]  # retrained outside, never changed from inside
    assert mounts["/state"] in load(COMPOSE)["volumes"]
    assert service["tmpfs"] == ["/tmp"]

    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    assert container()["securityContext"]["readOnlyRootFilesystem"]
    assert {mount["mountPath"] for mount in container()["volumeMounts"]} == {"/state", "/tmp"}
    assert {mount["name"] for mount in container()["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_pods_share_their_state_and_keep_it() -> None:
    """One that starts later must know what was withdrawn."""
    claim = manifests()["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    (state,) = [
        volume
        for volume in manifests()["Deployment"]["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "state"
    ]
    assert state["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


PINNED = f"python:3.11-slim-bookworm@sha256:{'7' * 64}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`make containerize EXTRA=gpu` as it is written, with other programs in the place of sisa, bentoml and docker."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("Makefile", "bentofile.yaml", "pyproject.toml", "serving/requirements-gpu.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name in ("uv.lock", ".uv/bin/uv", ".venv/ready-gpu"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    if shutil.which("uv") is None:
        (folder / ".uv/bin/uv").unlink()
        (folder / ".uv/bin/uv").symlink_to(ROOT / ".uv/bin/uv")
    programs = {
        "sisa": "",
        "bentoml": "cd .bentoml && mkdir -p bentos/sisa/tag/env/docker && cd bentos/sisa\n"
        "echo tag > latest && touch tag/env/docker/Dockerfile",
        "docker": "echo $* >> .bentoml/docker",
    }
    (folder / "programs").mkdir()
    for name, script in programs.items():
        (folder / "programs" / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / "programs" / name).chmod(0o755)
    path = f"{folder}/programs:{Path(sys.executable).parent}:{os.environ['PATH']}"
    (folder / ".venv/bin").mkdir()
    (folder / ".venv/bin/activate").touch()
    (folder / "models").mkdir()
    (folder / "models/ensemble.json").write_text('{"generation": 41}')
    command = ("make", "containerize", "EXTRA=gpu", f"BASE_IMAGE={PINNED}")
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / ".bentoml"


def test_make_containerize_builds_the_bentos_own_containerfile_on_the_base_image_that_is_given(made: Path) -> None:
    bento = ".bentoml/bentos/sisa/tag"
    build = f"build --tag sisa:latest-gpu --build-arg BASE_IMAGE={PINNED} --file {bento}/Containerfile {bento}"
    assert (made / "docker").read_text().splitlines() == ["info", build]
    assert (made.parent / bento / "Containerfile").is_file()


def test_make_bento_builds_the_generation_in_as_the_floor(made: Path) -> None:
    built, written = load(made / "bentofile.yaml"), load(ROOT / "bentofile.yaml")
    environment = {entry["name"]: entry["value"] for entry in built["envs"]}
    assert environment["SISA_SERVE_MIN_GENERATION"] == "41"
    assert built["python"]["requirements_txt"] == "serving/requirements-gpu.txt"
    assert built["envs"][:-1] == written["envs"][:-1]
    assert built.keys() == written.keys()


def test_make_bento_lists_in_the_sbom_what_the_images_python_installs(made: Path) -> None:
    bom = load(made / "bentos/sisa/tag/sbom.cdx.json")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    described = bom["metadata"]["component"]
    assert (bom["bomFormat"], described["name"], described["version"]) == ("CycloneDX", "sisa", project["version"])
    python = load(ROOT / "bentofile.yaml")["docker"]["python_version"]
    image = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    image |= {"implementation_name": "cpython", "platform_machine": "x86_64"}
    lines = map(Requirement, (ROOT / "serving/requirements-gpu.txt").read_text().splitlines())
    installed = [(line.name, str(line.specifier)) for line in lines if not line.marker or line.marker.evaluate(image)]
    assert [(component["name"], f"=={component['version']}") for component in bom["components"]] == installed


def test_the_service_understands_the_environment_of_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    for entry in load(ROOT / "bentofile.yaml")["envs"]:
        monkeypatch.setenv(entry["name"], entry["value"])
    assert load_settings(ROOT).min_generation == 0


def test_the_commands_that_swap_a_generation_work_as_written(tmp_path: Path) -> None:
    (block,) = [
        block for block in re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL) if "RETRAINED" in block
    ]
    *commands, check = block.splitlines()
    assert check.startswith("curl ")
    retrained, served = tmp_path / "retrained clone", tmp_path / "served"
    for folder, generation in ((retrained, "8"), (served, "7")):
        (folder / "models/onnx").mkdir(parents=True)
        (folder / "models/onnx/shard-0.onnx").write_text(generation)
        (folder / "models/ensemble.json").write_text(generation)
    published = (served / "models/ensemble.json").open()  # a reader that has it open keeps the whole old one
    for position, command in enumerate(commands):
        subprocess.run(command, shell=True, cwd=served, env={**os.environ, "RETRAINED": str(retrained)}, check=True)
        last = position == len(commands) - 1
        assert (served / "models/ensemble.json").read_text() == ("8" if last else "7")
        assert (served / "models/onnx/shard-0.onnx").read_text() == "8"
    with published:
        assert published.read() == "7"
    assert sorted(path.name for path in (served / "models").iterdir()) == ["ensemble.json", "onnx"]
