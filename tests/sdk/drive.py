#!/usr/bin/env python3
"""Drives the simulator with OpenAI's own SDK: what the SDK cannot work with is no simulator of OpenAI.

usage: drive.py SIMULATOR_BINARY   (with the packages of requirements.txt on the path)

Every answer goes through the SDK's own models in strict mode and may have no field that they lack.
"""

import json
import os
import subprocess
import sys
import time
import unittest
import urllib.request

os.environ["NO_PROXY"] = "*"

import openai  # noqa: E402  (after NO_PROXY: the SDK reads it when a client is made)

ADMIN_KEY = "sk-admin-drive"
ORGANIZATION = "org-drive"
PROJECT = "proj_drive"
BINARY = sys.argv[1] if len(sys.argv) > 1 else sys.exit(__doc__)


class Simulator:
    """The example binary on a free port."""

    def __init__(self):
        command = [BINARY, "--admin-key", ADMIN_KEY, "--organization", ORGANIZATION, "--project", PROJECT]
        self.process = subprocess.Popen(
            [*command, "--exit-with-stdin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.url = self.process.stdout.readline().strip().removeprefix("listening on ")

    def control(self, method, path, body=None):
        request = urllib.request.Request(
            self.url.removesuffix("/v1") + "/_sim" + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request) as answer:
            return json.load(answer)

    def stop(self):
        self.process.stdin.close()
        status = self.process.wait(timeout=10)
        self.process.stdout.close()
        return status


class Drive(unittest.TestCase):
    """One simulator for all tests, made new before each."""

    @classmethod
    def setUpClass(cls):
        cls.simulator = Simulator()

    @classmethod
    def tearDownClass(cls):
        if cls.simulator.stop() != 0:
            raise AssertionError("the simulator did not end well when its standard input closed")

    def setUp(self):
        self.simulator.control("POST", "/reset")
        self.client = self.as_admin()
        self.organization = self.client.admin.organization
        self.projects = self.organization.projects
        self.accounts = self.projects.service_accounts
        self.keys = self.projects.api_keys

    def as_admin(self, key=ADMIN_KEY, organization=ORGANIZATION, retries=0):
        client = openai.OpenAI(
            admin_api_key=key,
            organization=organization,
            base_url=self.simulator.url,
            max_retries=retries,
            _strict_response_validation=True,
        )
        self.addCleanup(client.close)
        return client

    def opens(self, value):
        """Whether a service account's key is good for anything."""
        with openai.OpenAI(api_key=value, base_url=self.simulator.url, max_retries=0) as client:
            try:
                return len(list(client.models.list())) > 0
            except openai.AuthenticationError as error:
                self.assertEqual(error.code, "invalid_api_key")
                return False

    def whole(self, model):
        """The model has no field that OpenAI's schema lacks, at any depth."""
        if isinstance(model, openai.BaseModel):
            self.assertFalse(model.model_extra, f"{type(model).__name__} has unknown fields")
            for name in type(model).model_fields:
                self.whole(getattr(model, name))
        elif isinstance(model, list):
            for item in model:
                self.whole(item)
        return model

    def refused(self, kind, code, call, *arguments, **fields):
        with self.assertRaises(kind) as caught:
            call(*arguments, **fields)
        self.assertEqual(caught.exception.code, code, caught.exception)
        self.assertTrue(caught.exception.request_id.startswith("req_"))
        return caught.exception


class ServiceAccounts(Drive):
    def test_an_account_comes_with_a_key_that_works(self):
        made = self.whole(self.accounts.create(PROJECT, name="vault-app"))
        self.assertEqual((made.name, made.role), ("vault-app", "member"))
        self.assertEqual(made.object, "organization.project.service_account")
        self.assertTrue(made.api_key.value.startswith("sk-svcacct-"))
        self.assertIsNone(made.api_key.expires_at)
        self.assertTrue(self.opens(made.api_key.value))

    def test_an_account_can_be_made_without_a_key(self):
        made = self.whole(self.accounts.create(PROJECT, name="bare", create_service_account_only=True))
        self.assertEqual((made.role, made.api_key), ("none", None))

    def test_an_account_is_read_and_changed(self):
        made = self.accounts.create(PROJECT, name="first")
        changed = self.accounts.update(made.id, project_id=PROJECT, name="second", role="owner")
        self.assertEqual((changed.name, changed.role), ("second", "owner"))
        self.assertEqual(self.whole(self.accounts.retrieve(made.id, project_id=PROJECT)), changed)

    def test_deleting_an_account_ends_its_keys(self):
        made = self.accounts.create(PROJECT, name="gone")
        more = self.accounts.api_keys.create(made.id, project_id=PROJECT)
        gone = self.whole(self.accounts.delete(made.id, project_id=PROJECT))
        self.assertEqual((gone.id, gone.deleted), (made.id, True))
        self.assertFalse(self.opens(made.api_key.value) or self.opens(more.value))
        again = self.refused(openai.NotFoundError, "not_found", self.accounts.delete, made.id, project_id=PROJECT)
        self.assertEqual(again.type, "invalid_request_error")

    def test_pages_follow_each_other_to_the_end(self):
        names = [f"account-{number}" for number in range(7)]
        for name in names:
            self.accounts.create(PROJECT, name=name)
        page = self.accounts.list(PROJECT, limit=3)
        self.assertEqual((len(page.data), page.has_more, page.last_id), (3, True, page.data[-1].id))
        self.assertEqual([account.name for account in page], names)
        self.whole(page.data)


class Keys(Drive):
    def test_a_key_of_an_account_lives_by_itself(self):
        account = self.accounts.create(PROJECT, name="several")
        scoped = {"name": "scoped", "scopes": ["api.all.read"], "expires_in_seconds": 60}
        more = self.whole(self.accounts.api_keys.create(account.id, project_id=PROJECT, **scoped))
        self.assertEqual((more.name, more.expires_at - more.created_at), ("scoped", 60))
        self.assertTrue(self.keys.delete(more.id, project_id=PROJECT).deleted)
        self.assertFalse(self.opens(more.value))
        self.assertTrue(self.opens(account.api_key.value))

    def test_keys_are_listed_and_read_without_their_value(self):
        account = self.accounts.create(PROJECT, name="listed")
        shown = self.whole(self.keys.retrieve(account.api_key.id, project_id=PROJECT))
        self.assertEqual(shown.owner.service_account.id, account.id)
        self.assertNotIn(account.api_key.value, shown.model_dump_json())
        self.assertEqual([key.id for key in self.keys.list(PROJECT)], [shown.id])

    def test_the_list_can_be_narrowed_by_the_owners_access(self):
        member = self.accounts.create(PROJECT, name="member").api_key.id
        bare = self.accounts.create(PROJECT, name="bare", create_service_account_only=True)
        hidden = self.accounts.api_keys.create(bare.id, project_id=PROJECT).id
        listed = lambda **access: [key.id for key in self.keys.list(PROJECT, **access)]  # noqa: E731
        self.assertEqual(listed(), [member])
        self.assertEqual(listed(owner_project_access="active"), [member])
        self.assertEqual(listed(owner_project_access="inactive"), [hidden])
        self.assertEqual(listed(owner_project_access="any"), [member, hidden])

    def test_a_key_dies_by_the_clock_and_cannot_be_brought_back(self):
        account = self.accounts.create(PROJECT, name="mortal", expires_in_seconds=2)
        self.assertTrue(self.opens(account.api_key.value))
        time.sleep(2.1)
        self.assertFalse(self.opens(account.api_key.value))
        change = {"project_id": PROJECT, "expires_in_seconds": 60}
        self.refused(openai.BadRequestError, "api_key_expired", self.keys.update, account.api_key.id, **change)

    def test_a_key_can_be_given_scopes_and_an_end(self):
        key = self.accounts.create(PROJECT, name="changed").api_key
        changed = self.whole(
            self.keys.update(key.id, project_id=PROJECT, scopes=["api.all.read"], expires_in_seconds=100)
        )
        self.assertAlmostEqual(changed.expires_at, key.created_at + 100, delta=2)
        self.simulator.control("POST", "/clock", {"advance_ms": 101_000})
        self.assertFalse(self.opens(key.value))


class AdminKeys(Drive):
    def test_a_new_admin_key_works_until_it_is_deleted(self):
        made = self.whole(self.organization.admin_api_keys.create(name="rotated", expires_in_seconds=3600))
        self.assertEqual(made.expires_at - made.created_at, 3600)
        other = self.as_admin(made.value).admin.organization.admin_api_keys
        self.assertEqual(self.whole(other.retrieve(made.id)).redacted_value, made.redacted_value)
        self.assertTrue(self.organization.admin_api_keys.delete(made.id).deleted)
        self.refused(openai.AuthenticationError, "invalid_api_key", other.list)

    def test_admin_keys_are_paged_in_both_orders(self):
        for number in range(4):
            self.organization.admin_api_keys.create(name=f"key-{number}")
        up = [key.id for key in self.organization.admin_api_keys.list(limit=2)]
        down = [key.id for key in self.organization.admin_api_keys.list(limit=2, order="desc")]
        self.assertEqual((len(up), up), (5, down[::-1]))
        self.whole(self.organization.admin_api_keys.list().data)


class Projects(Drive):
    def test_projects_are_made_changed_and_archived(self):
        made = self.whole(self.projects.create(name="new", residency="EU_STORAGE_PROCESSING"))
        self.assertEqual(self.projects.update(made.id, name="renamed").name, "renamed")
        account = self.accounts.create(made.id, name="inside")
        archived = self.whole(self.projects.archive(made.id))
        self.assertEqual((archived.status, archived.name), ("archived", "renamed"))
        self.assertFalse(self.opens(account.api_key.value))
        self.refused(openai.BadRequestError, "project_archived", self.accounts.create, made.id, name="late")
        self.assertEqual([project.id for project in self.projects.list()], [PROJECT])
        everything = [project.id for project in self.projects.list(include_archived=True, limit=1)]
        self.assertEqual(everything, [PROJECT, made.id])

    def test_rate_limits_are_listed(self):
        self.assertTrue(self.whole(list(self.projects.rate_limits.list_rate_limits(PROJECT, limit=1))))

    def test_costs_come_in_days_by_project(self):
        self.simulator.control("POST", "/costs", {"project": PROJECT, "amount": 12.5})
        start = int(time.time()) - 9 * 86400
        read = {"start_time": start, "group_by": ["project_id"], "limit": 5}
        first = self.whole(self.organization.usage.costs(**read))
        second = self.whole(self.organization.usage.costs(**read, page=first.next_page))
        spent = [result for bucket in first.data + second.data for result in bucket.results]
        self.assertEqual([(one.project_id, one.amount.value) for one in spent], [(PROJECT, 12.5)])
        self.assertFalse(second.has_more)


    def test_costs_are_grouped_and_an_unknown_amount_is_null(self):
        key = self.accounts.create(PROJECT, name="spender").api_key.id
        self.simulator.control("POST", "/costs", {"project": PROJECT, "amount": 2, "api_key": key, "user": "user-1"})
        self.simulator.control("POST", "/costs", {"project": PROJECT, "amount": None})
        costs = lambda **asked: [  # noqa: E731
            result
            for bucket in self.whole(self.organization.usage.costs(start_time=int(time.time()) - 86400, **asked)).data
            for result in bucket.results
        ]
        by_key = {one.api_key_id: one.amount.value for one in costs(group_by=["api_key_id"])}
        self.assertEqual(by_key, {None: None, key: 2})
        spent = [one.amount.value for one in costs(api_key_ids=[key])]
        self.assertEqual(spent, [0, 2])  # A day on which nothing was spent comes with 0.
        self.assertEqual({one.user_id for one in costs(group_by=["user_id"])}, {None, "user-1"})
        self.assertEqual({one.api_source for one in costs(group_by=["api_source"])}, {"unlabeled"})
        refused = {"start_time": 0, "group_by": ["user_id", "project_id"]}
        self.refused(openai.BadRequestError, "invalid_value", self.organization.usage.costs, **refused)

    def test_a_project_has_one_residency(self):
        for residency in ("JP_STORAGE_PROCESSING", "IN_STORAGE_PROCESSING", "AU_STORAGE_PROCESSING"):
            self.assertEqual(self.whole(self.projects.create(name="new", residency=residency)).residency, residency)
        old = self.whole(self.projects.create(name="old", geography="EU"))
        self.assertEqual(self.projects.update(old.id, geography="EU", name="renamed").name, "renamed")
        both = {"name": "both", "residency": "GLOBAL", "geography": "EU"}
        self.refused(openai.BadRequestError, "invalid_value", self.projects.create, **both)


# The public key of nobody's private key: the point of P-256 with the x coordinate of its generator.
JWK = {
    "kty": "EC",
    "crv": "P-256",
    "use": "sig",
    "alg": "ES256",
    "kid": "k1",
    "x": "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY",
    "y": "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU",
}


class WorkloadIdentity(Drive):
    def setUp(self):
        super().setUp()
        self.providers = self.organization.workload_identity_providers
        self.provider = self.whole(self.make("vault"))

    def make(self, name):
        uploaded = {"type": "uploaded_jwks", "jwks": {"keys": [JWK]}}
        return self.providers.create(
            name=name, type="oidc", issuer="https://vault.example.com", audience="a", verification=uploaded
        )

    def test_a_provider_is_made_read_changed_and_deleted(self):
        self.make("other")
        self.assertEqual([one.name for one in self.whole(self.providers.list(limit=1).data)], ["vault"])
        self.assertEqual([one.name for one in self.providers.list(limit=1)], ["vault", "other"])
        id = self.provider.id
        changed = self.providers.update(
            id, verification={"type": "uploaded_jwks", "jwks": {"keys": [JWK, {**JWK, "kid": "k2"}]}}
        )
        self.assertEqual(self.whole(self.providers.retrieve(id)), changed)
        gone = self.whole(self.providers.delete(id))
        self.assertEqual((gone.id, gone.deleted), (id, True))
        self.refused(openai.NotFoundError, "not_found", self.providers.retrieve, id)

    def test_a_rule_is_made_read_changed_and_deleted(self):
        account = self.accounts.create(PROJECT, name="app", create_service_account_only=True)
        rules, id = self.providers.federation_rules, self.provider.id
        made = self.whole(
            rules.create(
                id,
                name="app",
                project_id=PROJECT,
                service_account_id=account.id,
                attribute_matchers={"sub": "vault:abc:role:app"},
                permissions={"type": "restricted", "scopes": ["api.model.read"]},
            )
        )
        self.assertEqual([one.id for one in self.whole(rules.list(id).data)], [made.id])
        of = {"workload_identity_provider_id": id}
        changed = rules.update(made.id, **of, enabled=False, permissions={"type": "service_account_default"})
        self.assertEqual((self.whole(changed).enabled, changed.permissions.type), (False, "service_account_default"))
        self.assertEqual(rules.retrieve(made.id, **of), changed)
        self.refused(openai.ConflictError, "conflict", self.providers.delete, id)
        self.assertTrue(self.whole(rules.delete(made.id, **of)).deleted)


class Refusals(Drive):
    def test_a_key_that_only_reads_changes_nothing(self):
        self.simulator.control("POST", "/permission", {"reads_only": True})
        self.assertEqual([project.id for project in self.projects.list()], [PROJECT])
        error = self.refused(openai.AuthenticationError, None, self.accounts.create, PROJECT, name="x")
        self.assertIn("Missing scopes: api.management.write", error.message)

    def test_one_project_can_be_refused_alone(self):
        self.simulator.control("POST", "/project", {"id": PROJECT, "is_elsewhere": True})
        self.refused(openai.AuthenticationError, "incorrect_hostname", self.accounts.list, PROJECT)
        self.assertTrue(self.organization.admin_api_keys.list().data)
        self.simulator.control("POST", "/project", {"id": PROJECT, "is_default": True})
        error = self.refused(openai.BadRequestError, "invalid_project", self.accounts.create, PROJECT, name="x")
        self.assertIn("default project", error.message)

    def test_an_archived_project_says_what_can_be_updated(self):
        made = self.projects.create(name="old")
        self.projects.archive(made.id)
        error = self.refused(openai.BadRequestError, "project_archived", self.accounts.create, made.id, name="x")
        self.assertIn("You can only update an active project.", error.message)

    def test_what_is_missing_or_out_of_range_is_a_bad_request(self):
        bad, create = openai.BadRequestError, self.accounts.create
        self.refused(bad, "missing_required_parameter", create, PROJECT, name=openai.omit)
        self.refused(bad, "integer_below_min_value", create, PROJECT, name="x", expires_in_seconds=0)
        self.refused(bad, "integer_above_max_value", create, PROJECT, name="x", expires_in_seconds=31_536_001)
        self.refused(bad, "integer_above_max_value", self.accounts.list, PROJECT, limit=101)
        self.refused(bad, "unknown_parameter", create, PROJECT, name="x", extra_body={"description": "y"})
        self.refused(bad, "unknown_parameter", self.accounts.list, PROJECT, extra_query={"page": "2"})

    def test_a_policy_can_demand_and_cap_the_end_of_keys(self):
        self.simulator.control("POST", "/policy", {"max_lifetime": 3600})
        bad, create = openai.BadRequestError, self.accounts.create
        error = self.refused(bad, "api_key_expiration_required", create, PROJECT, name="x")
        self.assertEqual(error.param, "expires_in_seconds")
        self.refused(bad, "api_key_expiration_too_long", create, PROJECT, name="x", expires_in_seconds=3601)
        self.assertTrue(create(PROJECT, name="x", expires_in_seconds=3600).api_key.value)

    def test_strangers_are_not_let_in(self):
        keys = lambda **who: self.as_admin(**who).admin.organization.admin_api_keys.list  # noqa: E731
        self.refused(openai.AuthenticationError, "invalid_api_key", keys(key="sk-admin-wrong"))
        self.refused(openai.AuthenticationError, "mismatched_organization", keys(organization="org-other"))

    def test_what_is_not_there_is_not_found(self):
        self.refused(openai.NotFoundError, "not_found", self.projects.retrieve, "proj_nowhere")
        self.refused(openai.NotFoundError, "not_found", self.accounts.retrieve, "svc_acct_no", project_id=PROJECT)
        self.refused(openai.NotFoundError, "not_found", self.keys.retrieve, "key_no", project_id=PROJECT)

    def test_a_limit_is_a_rate_limit_error(self):
        self.simulator.control("POST", "/limit", {"path": "/organization/**", "calls": 1, "per": "minute"})
        self.projects.retrieve(PROJECT)
        error = self.refused(openai.RateLimitError, "rate_limit_exceeded", self.projects.retrieve, PROJECT)
        self.assertEqual(error.type, "invalid_request_error")
        self.assertRegex(error.message, r"please slow down and try again after [0-9.]+ seconds\.$")
        self.assertNotIn("retry-after", error.response.headers)

    def test_the_sdk_waits_as_told_and_tries_again(self):
        for told in ({"retry-after-ms": "30"}, {"retry-after": "1"}):
            limited = {"kind": "status", "status": 429, "headers": told}
            self.simulator.control("POST", "/faults", {"count": 1, "action": limited})
        patient = self.as_admin(retries=2).admin.organization.projects
        self.assertEqual(patient.retrieve(PROJECT).id, PROJECT)
        calls = self.simulator.control("GET", "/state")["calls"]
        self.assertEqual(calls, {"GET /organization/projects/{project_id}": {"200": 1, "429": 2}})

    def test_the_sdk_survives_one_dropped_connection(self):
        fault = {"path": "/organization/projects/*", "count": 1, "action": {"kind": "drop"}}
        self.simulator.control("POST", "/faults", fault)
        with self.assertRaises(openai.APIConnectionError):
            self.projects.retrieve(PROJECT)
        self.assertEqual(self.projects.retrieve(PROJECT).id, PROJECT)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
