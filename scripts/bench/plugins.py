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

    def write_role(self, api, name):
        role = {"project": "bench"} if self.has_projects else {"project_id": PROJECT}
        api.write(f"{self.name}/roles/{name}", role)
