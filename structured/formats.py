"""Formats as patterns whose every match is valid: narrower than the standards, never wider.

A standard's grammar alone would let through what its prose forbids (31 February, names too long for DNS), so each
pattern is written to need no prose. What is left out on purpose: leap seconds, the year 0, numeric offsets beyond
23:59, user information and IP literals in URIs, quoted local parts, domains without a dot, IPv6 with an embedded IPv4.
"""

from typing import Final

_YEAR: Final = "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
_LEAP_YEAR: Final = (
    "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"  # 0000 is left out
)
_DATE: Final = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_CLOCK: Final = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME: Final = rf"{_CLOCK}:[0-5][0-9](?:\.[0-9]{{1,6}})?(?:Z|[+\-]{_CLOCK})"

_DURATION_TIME: Final = "T(?:[0-9]{1,6}H(?:[0-9]{1,6}M(?:[0-9]{1,6}S)?)?|[0-9]{1,6}M(?:[0-9]{1,6}S)?|[0-9]{1,6}S)"
_DURATION_DATE: Final = "(?:[0-9]{1,4}Y(?:[0-9]{1,4}M(?:[0-9]{1,6}D)?)?|[0-9]{1,4}M(?:[0-9]{1,6}D)?|[0-9]{1,6}D)"
_DURATION: Final = f"P(?:[0-9]{{1,6}}W|{_DURATION_DATE}(?:{_DURATION_TIME})?|{_DURATION_TIME})"

_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_GROUP: Final = "[0-9A-Fa-f]{1,4}"
_IPV6: Final = (
    f"(?:(?:{_GROUP}:){{7}}{_GROUP}|::(?:{_GROUP}(?::{_GROUP}){{0,6}})?"
    + "".join(
        rf"|{_GROUP}(?::{_GROUP}){{{n - 1}}}::" + (rf"(?:{_GROUP}(?::{_GROUP}){{0,{6 - n}}})?" if n < 7 else "")
        for n in range(1, 8)
    )
    + ")"
)
_LABEL: Final = "[a-z0-9](?:-?[a-z0-9]){0,20}"  # no two hyphens in a row: those mark encoded names
_HOSTNAME: Final = rf"{_LABEL}(?:\.{_LABEL}){{0,3}}"  # at most 4 * 41 + 3 characters, of 253
_LOCAL_PART: Final = r"[a-zA-Z0-9_+\-]{1,20}(?:\.[a-zA-Z0-9_+\-]{1,20})?"  # at most 41 characters, of 64
_EMAIL: Final = rf"{_LOCAL_PART}@{_LABEL}(?:\.{_LABEL})?\.[a-z]{{2,20}}"

_PCHAR: Final = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})"
_QUERY: Final = rf"(?:\?(?:{_PCHAR}|[/?])*)?(?:\#(?:{_PCHAR}|[/?])*)?"
_AUTHORITY: Final = rf"//{_HOSTNAME}(?::[0-9]{{1,4}})?(?:/{_PCHAR}*)*"
_URI: Final = rf"[a-z][a-z0-9+\-.]*:(?:{_AUTHORITY}|/?{_PCHAR}+(?:/{_PCHAR}*)*){_QUERY}"
_PCHAR_NO_COLON: Final = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=@]|%[0-9A-Fa-f]{2})"
_RELATIVE: Final = rf"(?:{_AUTHORITY}|/(?:{_PCHAR}+(?:/{_PCHAR}*)*)?|{_PCHAR_NO_COLON}+(?:/{_PCHAR}*)*)?{_QUERY}"
_VARIABLE: Final = r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*(?:\*|:[1-9][0-9]{0,3})?"
_TEMPLATE: Final = (
    r"(?:[A-Za-z0-9\-._~!$&()*+,;=:@/?\#\[\]]|%[0-9A-Fa-f]{2}" + rf"|\{{[+\#./;?&]?{_VARIABLE}(?:,{_VARIABLE})*\}})*"
)
_POINTER: Final = "(?:/(?:[^~/]|~[01])*)*"

FORMATS: Final[dict[str, str]] = {
    name: f"^{pattern}$"
    for name, pattern in {
        "date": _DATE,
        "time": _TIME,
        "date-time": f"{_DATE}T{_TIME}",
        "duration": _DURATION,
        "uuid": "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
        "ipv4": rf"{_OCTET}(?:\.{_OCTET}){{3}}",
        "ipv6": _IPV6,
        "hostname": _HOSTNAME,
        "email": _EMAIL,
        "uri": _URI,
        "uri-reference": f"(?:{_URI}|{_RELATIVE})",
        "uri-template": _TEMPLATE,
        "json-pointer": _POINTER,
        "relative-json-pointer": rf"(?:0|[1-9][0-9]{{0,5}})(?:\#|{_POINTER})",
        # Of these only the ASCII part is generated.
        "idn-email": _EMAIL,
        "idn-hostname": _HOSTNAME,
        "iri": _URI,
        "iri-reference": f"(?:{_URI}|{_RELATIVE})",
    }.items()
}
