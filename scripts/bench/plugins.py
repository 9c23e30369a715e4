"""The two plugins, and what each wants to be told before it hands out a credential."""

import shutil
from dataclasses import dataclass
from pathlib import Path

ADMIN_KEY = "sk-admin-simulated"
ORGANIZATION = "org-simulated"
PROJECT = "proj_simulated"


@dataclass(frozen=True)
class Plugin:
    """A plugin's program. Its name is also its file name, its name in the catalog and the path it is mounted at."""

    name: str
    program: Path
    # Ours knows projects of its own; the Go plugin's roles name OpenAI's.
    has_projects: bool

    @property
    def role(self):
        return f"{self.name}/roles/bench"

    @property
    def credential(self):
        return f"{self.name}/creds/bench"

    @property
    def access_token(self):
        return f"{self.name}/creds/keyless"

    @property
    def identity_token(self):
        return f"{self.name}/identity-token/keyless"

    def install(self, folder):
        """Puts a copy where the server takes plugins from. The copy is how its processes are told from others."""
        installed = Path(folder) / self.name
        shutil.copy(self.program, installed)
        installed.chmod(0o755)
        return installed

    def set_up(self, api, openai):
        """Configuration and one role; everything that can be left out is."""
        config = {"admin_api_key": ADMIN_KEY, "organization_id": ORGANIZATION, "api_endpoint": openai}
        if self.has_projects:
            api.write(f"{self.name}/config", config)
            api.write(f"{self.name}/project/bench", {"project_id": PROJECT})
        else:
            api.write(f"{self.name}/config", {**config, "admin_api_key_id": "key_simulated"})
        self.write_role(api, "bench")

    def set_up_keyless(self, api, openai):
        """A role whose readers get tokens, which the Go plugin does not have."""
        token_endpoint = openai.removesuffix("/v1") + "/oauth/token"
        api.write(f"{self.name}/config/federation", {"token_endpoint": token_endpoint})
        api.write(f"{self.name}/roles/keyless", {"project": "bench", "credential_type": "access_token"})

    def write_role(self, api, name):
        role = {"project": "bench"} if self.has_projects else {"project_id": PROJECT}
        api.write(f"{self.name}/roles/{name}", role)
