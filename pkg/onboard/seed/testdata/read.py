# Prints, as JSON, what cloud-init makes of the seed folders below the first argument. The second one is a folder for its own use.
import json
import sys

from cloudinit import helpers, util
from cloudinit.handlers.cloud_config import CloudConfigPartHandler
from cloudinit.sources.DataSourceNoCloud import DataSourceNoCloud

seeds, scratch = sys.argv[1:3]
paths = helpers.Paths({"cloud_dir": scratch, "run_dir": scratch})
paths.seed_dir = seeds
source = DataSourceNoCloud({"datasource": {"NoCloud": {"fs_label": None}}}, None, paths)
if not source._get_data():
    sys.exit("cloud-init does not take it for a seed")
paths.datasource = source
config = CloudConfigPartHandler(paths)
config.handle_part(None, "__begin__", None, None, "once-per-instance", {})


def walk(message):
    parts = []
    for part in message.walk():
        if part.is_multipart():
            continue
        text = util.fully_decoded_payload(part)
        if isinstance(text, bytes):
            text = text.decode()
        kind = part.get_content_type()
        parts.append([kind, text])
        if kind == "text/cloud-config":
            config.handle_part(None, kind, part.get_filename(), text, "once-per-instance", dict(part))
    return parts


parts = walk(source.get_userdata())
print(json.dumps({
    "id": source.get_instance_id(),
    "parts": parts,
    "config": config.cloud_buf,
    "network": source.network_config,
    "vendor": walk(source.get_vendordata()) if source.vendordata_raw else [],
    "hostname": source.metadata.get("local-hostname", ""),
}))
