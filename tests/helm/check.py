#!/usr/bin/env python3
"""What the chart promises, on what Helm's own engine makes of it.

    check.py PROGRAM            all of it; PROGRAM is a contacts-gateway that judges the settings files
    check.py PROGRAM --write    write the golden renders anew, to be read as a change like any other

Needs helm-python-sdk, which holds Helm's engine, and kubernetes-validate, which holds Kubernetes' schemas.
"""

import contextlib
import difflib
import json
import logging
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import helm_python as helm
import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).resolve().parent
CHART = HERE.parent.parent / "helm" / "contacts-gateway"
GOLDEN = HERE / "golden"
# The oldest that Chart.yaml allows, and the newest whose schemas are to be had.
KUBERNETES = ("1.29", "1.37")
# Kinds of other owners, which have no schema there: golden renders hold every key of theirs.
FOREIGN = {"PodMonitor", "PrometheusRule"}
RULE_KEYS = {"alert", "record", "expr", "for", "keep_firing_for", "labels", "annotations"}
MOUNTED = "/run/secrets/contacts-gateway"

# A certificate by itself, and its key behind it: each reader takes what it looks for.
CERTIFIED = subprocess.run(
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN=a -keyout -".split(),
    capture_output=True,
    text=True,
    check=True,
).stdout

# A word in the refusal, and the values that are to meet it.
REFUSED = [
    ("replicaCount", {"replicaCount": 2}),
    ("fresh_fro", {"config": {"cache": {"fresh_fro": "30s"}}}),
    ("client_id", {"config": {"credentials": [{"stream": "*"}]}}),
    ("calls", {"config": {"allowance": {"calls": "many"}}}),
    ("drain_delay", {"config": {"listen": {"drain_delay": 5}}}),
    ("mode", {"mode": "daemonset"}),
    ("digest", {"image": {"digest": "latest"}}),
    ("existingSecrets", {"existingSecrets": [{"name": "a"}]}),
    ("everything", {"dashboards": {"everything": True}}),
    ("terminationGracePeriodSeconds is 25", {"terminationGracePeriodSeconds": 25}),
    ("drain_for (29s 500ms)", {"mode": "sidecar", "config": {"listen": {"drain_for": "29s 500ms", "drain_delay": "0.5s"}}}),
    ("drain_for (1h)", {"config": {"listen": {"drain_for": "1h"}}}),
    ("limits.memory is 100Mi", {"resources": {"limits": {"memory": "100Mi"}}}),
    ("max_bytes (1GiB)", {"config": {"cache": {"max_bytes": "1GiB"}}}),
    ("shared", {"config": {"shared": {"url": "rediss://gateway:hunter2@redis:6379"}}}),
    ("no Service reaches it", {"config": {"listen": {"address": "127.0.0.1:8080"}}}),
    ("no Prometheus reaches it", {"podMonitor": {"enabled": True}, "config": {"admin": {"address": "[::1]:9090"}}}),
    ("configExistingSecretName", {"configExistingSecretName": "own", "config": {"cache": {"fresh_for": "5s"}}}),
]


def render(values=None, chart=CHART, name="demo", namespace="prod"):
    """{path in the chart: text}, for a release."""
    with helm.Chart.load(str(chart)) as loaded:
        rendered = loaded.render(values or {}, name=name, namespace=namespace)
    return {path: text for path, text in sorted(rendered.items()) if text.strip()}


def documents(rendered):
    texts = [text for path, text in rendered.items() if not path.endswith("NOTES.txt")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def of_kind(kind, documents):
    return [document for document in documents if document["kind"] == kind]


def pod_specs(documents):
    for document in documents:
        if document["kind"] == "Pod":
            yield document["spec"]
        elif document["kind"] == "Deployment":
            yield document["spec"]["template"]["spec"]


def gateways(documents):
    """The program's containers, of whatever kind."""
    for spec in pod_specs(documents):
        for container in (spec.get("initContainers") or []) + spec["containers"]:
            if container["name"] == "contacts-gateway":
                yield container, spec


@contextlib.contextmanager
def consumer(values=None):
    """A service's chart that has this one as a dependency, rendered."""
    with tempfile.TemporaryDirectory() as folder:
        chart = pathlib.Path(folder) / "campaign"
        shutil.copytree(HERE / "consumer", chart, ignore=shutil.ignore_patterns("charts", "Chart.lock"))
        shutil.copytree(CHART, chart / "charts" / "contacts-gateway")
        yield render({"contacts-gateway": values or {}}, chart)


def cases():
    """Every render that is looked at: its name, and {path: text}."""
    for file in sorted((CHART / "ci").glob("*-values.yaml")):
        yield file.name.removesuffix("-values.yaml"), render(yaml.safe_load(file.read_text()))
    yield "defaults", render()
    whole = {"configExistingSecretName": "whole", "config": {"admin": {"address": "127.0.0.1:9099"}}}
    yield "whole-file-from-a-secret", render(whole)
    for name, values in [("consumer", {}), ("consumer-plain", {"sidecar": {"native": False}}), ("consumer-off", {"enabled": False})]:
        with consumer(values) as rendered:
            yield name, rendered


def golden(rendered):
    """As text, without what comes from the files of the alerts and of the dashboards."""
    kept = [
        f"# {path}\n{text.strip()}\n"
        for path, text in rendered.items()
        if not path.endswith(("prometheusrule.yaml", "dashboards.yaml"))
    ]
    return re.sub(r"[ \t]+$", "", "\n".join(kept), flags=re.M)


class Chart(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.cases = dict(cases())

    def each(self):
        return [(name, documents(rendered)) for name, rendered in self.cases.items()]

    def test_helm_lint_finds_nothing_to_say(self):
        for file in sorted((CHART / "ci").glob("*-values.yaml")):
            messages = helm.lint(str(CHART), yaml.safe_load(file.read_text()), strict=True)["messages"]
            self.assertEqual([m for m in messages if m["severity"] > 1], [], file.name)

    def test_every_manifest_is_what_the_oldest_and_the_newest_kubernetes_take(self):
        logging.disable(logging.WARNING)
        known = [(name, d) for name, found in self.each() for d in found if d["kind"] not in FOREIGN]
        for version in KUBERNETES:
            for name, document in known:
                with self.subTest(name, version=version, kind=document["kind"]):
                    # Raises for a kind without a schema as well.
                    kubernetes_validate.validate(document, version, strict=True)

    def test_the_chart_says_which_kubernetes_it_was_tested_with(self):
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        self.assertEqual(chart["kubeVersion"], f">={KUBERNETES[0]}.0-0")

    def test_renders_are_those_that_were_read(self):
        stale = []
        for name, rendered in self.cases.items():
            file = GOLDEN / f"{name}.yaml"
            now, then = golden(rendered), file.read_text() if file.exists() else ""
            if now != then:
                stale += difflib.unified_diff(then.splitlines(), now.splitlines(), f"golden/{file.name}", "now", lineterm="")
        self.assertEqual({file.stem for file in GOLDEN.iterdir()}, set(self.cases))
        self.assertFalse(stale, "\n".join([*stale, "", "If that is meant: just chart-golden"]))

    def test_a_name_that_looks_like_a_number_or_a_truth_stays_a_name(self):
        logging.disable(logging.WARNING)
        everything = yaml.safe_load((CHART / "ci" / "everything-values.yaml").read_text())
        named = {"existingSecrets": ["1"], "priorityClassName": "2", "serviceAccount": {"name": "3"}, "nameOverride": "4"}
        monitoring = {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}, "dashboards": {"enabled": True}}
        for values, name, namespace in (
            (monitoring, "1234567", "12345"),
            (monitoring | {"mode": "sidecar"}, "1234567", "12345"),
            (monitoring | {"fullnameOverride": "true"} | named, "demo", "0x1f"),
            (everything | named | {"config": {}, "fullnameOverride": "null"}, "1", "2"),
            ({"configExistingSecretName": "5", "serviceAccount": {"create": False, "name": "6"}}, "7", "8"),
        ):
            for document in documents(render(values, name=name, namespace=namespace)):
                with self.subTest(name, kind=document["kind"]):
                    if document["kind"] not in FOREIGN:
                        kubernetes_validate.validate(document, KUBERNETES[-1], strict=True)
                    metadata = document["metadata"]
                    texts = [metadata["name"], metadata.get("namespace", ""), *metadata.get("labels", {}).values()]
                    selector = document.get("spec", {}).get("selector", {})
                    texts += selector.get("matchLabels", {}).values()
                    texts += document.get("spec", {}).get("namespaceSelector", {}).get("matchNames", [])
                    self.assertEqual({type(text) for text in texts}, {str})

    def test_who_wants_no_requests_and_no_limits_says_null(self):
        for container, _ in gateways(documents(render({"resources": None}))):
            self.assertIsNone(container["resources"])

    def test_a_size_is_compared_however_kubernetes_lets_it_be_written(self):
        for memory in ("201326592", 201326592, "200e6", "2E8", "200M", "192Mi", "0.2G"):
            self.assertTrue(render({"resources": {"limits": {"memory": memory}}}), memory)
        with self.assertRaises(helm.HelmError):
            render({"resources": {"limits": {"memory": "100e6"}}})

    def test_a_wrong_value_is_refused_by_name(self):
        for word, values in REFUSED:
            with self.subTest(word), self.assertRaises(helm.HelmError) as refused:
                render(values)
            self.assertIn(word, str(refused.exception))

    def test_a_chart_that_includes_the_sidecar_must_say_so_and_give_it_credentials(self):
        for word, values in (("Say mode: sidecar", {"mode": "deployment"}), ("no credentials", {"config": {"credentials": []}})):
            with self.assertRaises(helm.HelmError) as refused, consumer(values):
                pass
            self.assertIn(word, str(refused.exception))

    def test_the_values_that_the_readme_shows_are_taken(self):
        readme = (HERE.parent.parent / "README.md").read_text()
        blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", readme, flags=re.S)]
        shown = [block["contacts-gateway"] for block in blocks if "contacts-gateway" in block]
        self.assertTrue(shown)
        for values in shown:
            with consumer(values) as rendered:
                self.assertTrue(list(gateways(documents(rendered))))

    def test_the_program_takes_the_settings_as_they_are_mounted(self):
        for name, found in self.each():
            env = {"CANARY": "from-the-environment"}
            for container, _ in gateways(found):
                env |= {v["name"]: v["value"] for v in container["env"] if "value" in v}
            for settings in of_kind("ConfigMap", found):
                if "gateway.toml" in settings.get("data", {}):
                    with self.subTest(name):
                        checked = self.program_checks(settings["data"]["gateway.toml"], env)
                        self.assertEqual(checked.returncode, 0, checked.stderr)

    def program_checks(self, settings, env):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for secret in set(re.findall(rf'"{MOUNTED}/([^"]+)"', settings)):
                file = root / secret
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(CERTIFIED if file.suffix in (".crt", ".key") else "0123456789abcdef0123456789abcdef\n")
            file = root / "gateway.toml"
            file.write_text(settings.replace(MOUNTED, folder))
            arguments = [PROGRAM, "check", "--config", str(file)]
            return subprocess.run(arguments, env=env, capture_output=True, text=True, check=False)

    def test_whatever_the_schema_lets_through_becomes_the_toml_that_was_meant(self):
        config = {
            "callers": [{"name": "a", "token_sha256": "0" * 64, "requests_per_minute": 6000, "accounts": ["1", "2"]}],
            "credentials": [{"stream": "s", "client_id": 'a"b\\c <&> é\t', "secret_file": "/x"}],
            "allowance": {"calls": 1000000, "floor": 1, "hourly": 4000000001},
            "upstream": {"extra_query": [], "accept_any_body": False},
        }
        [settings] = of_kind("ConfigMap", documents(render({"config": config})))
        shown = self.program_checks(settings["data"]["gateway.toml"].replace('"/x"', f'"{MOUNTED}/x"'), {})
        self.assertEqual(shown.returncode, 0, shown.stderr)
        for line in ("calls = 1000000", "hourly = 4000000001", "hourly = 4000000001", "requests_per_minute = 6000", 'accounts = ["1", "2"]'):
            self.assertIn(line, shown.stdout)

    def test_no_pod_may_more_than_it_must(self):
        for name, found in self.each():
            for container, spec in gateways(found):
                own = container["securityContext"]
                self.assertEqual((own["runAsUser"], own["runAsNonRoot"]), (65532, True))
                self.assertIs(own["readOnlyRootFilesystem"], True)
                self.assertIs(own["allowPrivilegeEscalation"], False)
                self.assertEqual(own["capabilities"], {"drop": ["ALL"]})
                self.assertEqual(own["seccompProfile"], {"type": "RuntimeDefault"})
                if not name.startswith("consumer") and name != "everything":
                    self.assertIs(spec["automountServiceAccountToken"], False)
                if name != "nothing":
                    self.assertLessEqual({"cpu", "memory"}, set(container["resources"]["limits"]))

    def test_settings_and_secrets_reach_a_running_pod(self):
        for name, found in self.each():
            for container, spec in gateways(found):
                self.assertNotIn("lifecycle", container, name)
                self.assertFalse([mount for mount in container["volumeMounts"] if "subPath" in mount])
                names = [volume["name"] for volume in spec["volumes"]]
                self.assertLessEqual({mount["name"] for mount in container["volumeMounts"]}, set(names))
                self.assertEqual(len(names), len(set(names)))

    def test_replicas_with_a_shared_store_know_how_many_they_are(self):
        shared = {"shared": {"url": "redis://redis:6379"}}
        for values, told in [
            ({"replicas": 3, "config": shared}, "fleet_size = 3"),
            ({"config": shared, "autoscaling": {"enabled": True, "maxReplicas": 7}}, "fleet_size = 7"),
            ({"replicas": 3, "config": shared | {"allowance": {"fleet_size": 9}}}, "fleet_size = 9"),
            ({"replicas": 3}, "fleet_size = 3"),
            ({"replicas": 0, "config": shared}, None),
            ({"replicas": 1, "config": shared}, None),
        ]:
            [settings] = of_kind("ConfigMap", documents(render(values)))
            settings = settings["data"]["gateway.toml"]
            self.assertEqual("fleet_size" in settings, told is not None, settings)
            self.assertIn(told or "", settings)

    def test_a_pod_behind_a_service_serves_on_for_a_while_wherever_its_settings_come_from(self):
        whole = {"configExistingSecretName": "whole"}
        for values, delay in ((whole, "5s"), (whole | {"config": {"listen": {"drain_delay": "9s"}}}, "9s")):
            [container, *_] = [container for container, _ in gateways(of_kind("Deployment", documents(render(values))))]
            told = {variable["name"]: variable.get("value") for variable in container["env"]}
            self.assertEqual(told["CONTACTS_GATEWAY__LISTEN__DRAIN_DELAY"], delay)

    def test_who_may_connect_is_nobody_where_nobody_is_named(self):
        [policy] = of_kind("NetworkPolicy", documents(render({"networkPolicy": {"callers": [], "operators": []}})))
        self.assertIsNone(policy["spec"]["ingress"])

    def test_values_that_replace_a_default_do_not_stand_beside_it(self):
        own = {"matchLabels": {"a": "b"}}
        found = documents(render({
            "podDisruptionBudget": {"minAvailable": 1},
            "strategy": {"type": "Recreate"},
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": own}],
        }))
        [budget], [deployment] = of_kind("PodDisruptionBudget", found), of_kind("Deployment", found)
        self.assertEqual(set(budget["spec"]), {"selector", "minAvailable"})
        self.assertEqual(deployment["spec"]["strategy"], {"type": "Recreate"})
        [constraint] = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        self.assertEqual(constraint["labelSelector"], own)

    def test_the_application_is_told_the_address_that_its_sidecar_listens_on(self):
        for address, url in (("127.0.0.2:81", "http://127.0.0.2:81"), ("[::1]:81", "http://[::1]:81"), ("0.0.0.0:81", "http://127.0.0.1:81")):
            with consumer({"config": {"listen": {"address": address}}}) as rendered:
                self.assertIn(url, "".join(rendered.values()))

    def test_a_change_of_the_settings_replaces_no_pod_unless_that_is_asked_for(self):
        for asked in (False, True):
            before, after = (
                of_kind("Deployment", documents(render({"restartOnConfigChange": asked, "config": {"cache": {"fresh_for": f}}})))
                for f in ("1s", "2s")
            )
            self.assertEqual(before != after, asked)

    def test_no_secret_is_ever_made(self):
        for name, found in self.each():
            self.assertFalse(of_kind("Secret", found), name)

    def test_a_native_sidecar_starts_before_the_application_and_the_other_kind_beside_it(self):
        [native] = of_kind("Deployment", documents(self.cases["consumer"]))
        [plain] = of_kind("Deployment", documents(self.cases["consumer-plain"]))
        native, plain = (deployment["spec"]["template"]["spec"] for deployment in (native, plain))
        [sidecar] = native["initContainers"]
        self.assertEqual(sidecar["restartPolicy"], "Always")
        self.assertEqual(sidecar["startupProbe"]["periodSeconds"], 1)
        self.assertEqual([c["name"] for c in native["containers"]], ["campaign"])
        self.assertFalse(plain["initContainers"])
        self.assertEqual([c["name"] for c in plain["containers"]], ["campaign", "contacts-gateway"])
        self.assertNotIn("restartPolicy", plain["containers"][1])
        for case, delay in (("consumer", "0s"), ("consumer-plain", "5s"), ("defaults", "5s")):
            [settings] = of_kind("ConfigMap", documents(self.cases[case]))
            self.assertIn(f'drain_delay = "{delay}"', settings["data"]["gateway.toml"])

    def test_the_podmonitor_finds_the_pods(self):
        for values in ({"podMonitor": {"enabled": True}}, {"podMonitor": {"enabled": True, "everySidecar": True}}):
            with consumer(values) as rendered:
                found = documents(rendered)
            [monitor], [deployment] = of_kind("PodMonitor", found), of_kind("Deployment", found)
            self.selects(monitor, deployment)
        found = documents(render({"podMonitor": {"enabled": True}}))
        [monitor], [deployment] = of_kind("PodMonitor", found), of_kind("Deployment", found)
        self.selects(monitor, deployment)
        [test] = of_kind("Pod", found)
        [service] = of_kind("Service", found)
        self.assertFalse(service["spec"]["selector"].items() <= test["metadata"]["labels"].items())

    def test_who_asks_the_admin_port_knows_whether_it_speaks_tls(self):
        def asking(tls):
            files = {key: f"{MOUNTED}/tls/{key}" for key in tls}
            values = {"podMonitor": {"enabled": True}, "existingSecrets": ["tls"], "config": {"admin": {"tls": files}}}
            found = documents(render(values))
            [(container, _)], [monitor] = gateways(of_kind("Deployment", found)), of_kind("PodMonitor", found)
            env = {v["name"].removeprefix("CONTACTS_GATEWAY__ADMIN__TLS__") for v in container["env"] if "TLS" in v["name"]}
            return container["readinessProbe"], env, monitor["spec"]["podMetricsEndpoints"][0].get("scheme", "http")

        probe, env, scheme = asking([])
        self.assertEqual((probe["httpGet"].get("scheme", "HTTP"), env, scheme), ("HTTP", set(), "http"))
        probe, env, scheme = asking(["certificate_file", "key_file"])
        self.assertEqual((probe["httpGet"]["scheme"], env, scheme), ("HTTPS", set(), "https"))
        probe, env, scheme = asking(["certificate_file", "key_file", "client_ca_file"])
        self.assertEqual(probe["exec"]["command"], ["/contacts-gateway", "health"])
        self.assertEqual((env, scheme), ({"CERTIFICATE_FILE", "KEY_FILE", "CLIENT_CA_FILE"}, "https"))

    def selects(self, monitor, deployment):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        selector = monitor["spec"]["selector"]
        self.assertLessEqual(selector.get("matchLabels", {}).items(), labels.items())
        self.assertLessEqual({e["key"] for e in selector.get("matchExpressions", [])}, set(labels))
        [(container, _)] = gateways([deployment])
        ports = [port["name"] for port in container["ports"]]
        self.assertIn(monitor["spec"]["podMetricsEndpoints"][0]["port"], ports)

    def test_alerts_and_dashboards_arrive_as_they_are_written(self):
        alert = {"alert": "A", "expr": "up == 0", "for": "5m", "annotations": {"summary": "{{ $labels.pod }} {{ include }}"}}
        own = {"prometheusRule": {"enabled": True, "rules": [{"alert": "B", "expr": "1"}]}, "dashboards": {"enabled": True}}
        board = json.dumps({"title": "{{ not a template }}"}, indent=1)
        with tempfile.TemporaryDirectory() as folder:
            chart = pathlib.Path(folder) / "contacts-gateway"
            shutil.copytree(CHART, chart)
            for name in ("alerts", "dashboards"):
                (chart / name).mkdir(exist_ok=True)
            (chart / "alerts" / "extra.rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "a", "rules": [alert]}]}))
            (chart / "dashboards" / "extra.json").write_text(board)
            found = documents(render(own, chart))
            written = [yaml.safe_load(f.read_text()) for f in sorted((chart / "alerts").glob("*.rules.yaml"))]
            boards = {f.name: f.read_text().strip() for f in (chart / "dashboards").glob("*.json")}
        [rule] = of_kind("PrometheusRule", found)
        groups = [group for file in written for group in file["groups"]]
        self.assertEqual(rule["spec"]["groups"][:-1], groups)
        self.assertEqual(rule["spec"]["groups"][-1]["rules"], own["prometheusRule"]["rules"])
        rules = [rule for group in rule["spec"]["groups"] for rule in group["rules"]]
        self.assertLessEqual({key for rule in rules for key in rule}, RULE_KEYS)
        maps = [m for m in of_kind("ConfigMap", found) if "grafana_dashboard" in m["metadata"]["labels"]]
        self.assertEqual({name: text.strip() for m in maps for name, text in m["data"].items()}, boards)
        self.assertEqual({m["metadata"]["labels"]["grafana_dashboard"] for m in maps}, {"1"})

    def test_runbooks_are_where_the_values_say(self):
        readme = "https://git.example.com/contacts-gateway/README.md"
        [rule] = of_kind("PrometheusRule", documents(render({"prometheusRule": {"enabled": True, "runbooks": readme}})))
        alerts = [rule for group in rule["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
        links = [alert["annotations"]["runbook_url"] for alert in alerts]
        self.assertEqual(links, [f"{readme}#{alert['alert'].lower()}" for alert in alerts])

    def test_every_value_is_documented_where_it_stands(self):
        schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        # Helm gives every dependency the one, and charts that have it as a dependency the other.
        self.assertEqual(set(schema) - set(values), {"global", "enabled"})
        for key, value in values.items():
            if isinstance(value, dict) and "additionalProperties" in schema[key] and schema[key].get("properties") and key != "config":
                self.assertLessEqual(set(value), set(schema[key]["properties"]), key)


def write():
    shutil.rmtree(GOLDEN, ignore_errors=True)
    GOLDEN.mkdir()
    for name, rendered in cases():
        (GOLDEN / f"{name}.yaml").write_text(golden(rendered))


if __name__ == "__main__":
    if sys.argv[2:] == ["--write"]:
        write()
    elif len(sys.argv) != 2:
        sys.exit(__doc__)
    else:
        PROGRAM = os.path.abspath(sys.argv.pop())
        unittest.main()
