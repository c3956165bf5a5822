"""The XMP packet of a picture: what catalogues, search engines and the law look for, in their standards' terms."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from xml.etree import ElementTree

from core.provenance import TRAINED_ALGORITHMIC_MEDIA

#: The keyword under which a PNG carries XMP (XMP specification part 3, 1.1.5).
KEYWORD = "XML:com.adobe.xmp"
_X, _RDF = "adobe:ns:meta/", "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XMP = "http://ns.adobe.com/xap/1.0/"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_TC260 = "http://www.tc260.org.cn/ns/AIGC/1.0/"
_PREFIXES = {"x": _X, "rdf": _RDF, "xmp": _XMP, "Iptc4xmpExt": _IPTC, "TC260": _TC260}
_PACKET = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{body}<?xpacket end=\'r\'?>'
#: What XML 1.0 can not hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What is said of a picture. `producer` "" leaves out China's implicit label (GB 45438-2025)."""

    prompt: str
    system: str
    version: str
    creator_tool: str
    producer: str = ""
    produce_id: str = ""


def packet(marks: Marks) -> str:
    """The XMP packet; whatever stands in a prompt is text in it and never markup."""
    for prefix, uri in _PREFIXES.items():
        ElementTree.register_namespace(prefix, uri)
    root = ElementTree.Element(f"{{{_X}}}xmpmeta")
    rdf = ElementTree.SubElement(root, f"{{{_RDF}}}RDF")
    description = ElementTree.SubElement(rdf, f"{{{_RDF}}}Description", {f"{{{_RDF}}}about": ""})
    for name, text in _properties(marks):
        ElementTree.SubElement(description, name).text = _NOT_XML.sub("\ufffd", text)
    return _PACKET.format(body=ElementTree.tostring(root, encoding="unicode"))


def _properties(marks: Marks) -> list[tuple[str, str]]:
    properties = [
        (f"{{{_IPTC}}}DigitalSourceType", TRAINED_ALGORITHMIC_MEDIA),
        (f"{{{_IPTC}}}AISystemUsed", marks.system),
        (f"{{{_IPTC}}}AISystemVersionUsed", marks.version),
        (f"{{{_IPTC}}}AIPromptInformation", marks.prompt),
        (f"{{{_XMP}}}CreatorTool", marks.creator_tool),
    ]
    if marks.producer:
        properties.append((f"{{{_TC260}}}AIGC", aigc(marks.producer, marks.produce_id)))
    return properties


def aigc(producer: str, produce_id: str) -> str:
    """The implicit label of GB 45438-2025, annex E: Label 1 says "made by a machine", for certain."""
    fields = {
        "Label": "1",
        "ContentProducer": producer,
        "ProduceID": produce_id,
        "ReservedCode1": "",
        "ContentPropagator": "",
        "PropagateID": "",
        "ReservedCode2": "",
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
