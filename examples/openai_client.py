"""Draw a picture with the real OpenAI client: only `base_url` differs.

python examples/openai_client.py "a red mug on a white background" mug.png
"""

import base64
import os
import sys
from pathlib import Path

from openai import OpenAI

prompt, file = sys.argv[1], Path(sys.argv[2])
client = OpenAI(
    base_url=os.environ.get("ZIMG_URL", "http://127.0.0.1:8080") + "/v1", api_key=os.environ.get("ZIMG_API_KEY", "none")
)
picture = client.images.generate(model="z-image-turbo", prompt=prompt, response_format="b64_json")
file.write_bytes(base64.b64decode(picture.data[0].b64_json))
print(f"{file}: {file.stat().st_size} bytes")
