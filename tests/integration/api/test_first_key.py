"""A service that needs keys and has none makes one at its first start, once."""

import stat

import httpx

from tests.integration.api.conftest import eventually, live_api


def test_the_first_start_puts_an_admin_key_where_only_its_owner_reads_it(settings, parts, worker, tmp_path):
    with live_api(settings, tmp_path, ZIMG_HOST="0.0.0.0") as api:
        path = tmp_path / "admin.key"
        eventually(path.is_file)
        key = eventually(path.read_text).strip()
        headers = {"Authorization": f"Bearer {key}"}
        made = httpx.post(f"{api.url}/v1/keys", json={"tenant": "shop"}, headers=headers, timeout=20)

        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert made.status_code == 201
        assert key not in (tmp_path / "api.log").read_text()
        assert str(path) in (tmp_path / "api.log").read_text()

    path.unlink()
    with live_api(settings, tmp_path, ZIMG_HOST="0.0.0.0"):
        assert not path.exists()
        assert len(parts.tenants.list_keys()) == 2
