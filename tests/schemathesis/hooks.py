"""What OpenAPI 3.1 cannot say of valid requests, so that those that Schemathesis means to be valid are.

Nothing here touches a request that is meant to be refused.
"""

from datetime import datetime, timedelta, timezone
from uuid import uuid4

import schemathesis
from hypothesis import strategies as st
from schemathesis.core import NOT_SET
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import RejectedPositiveData


def text(most_bytes, **characters):
    """Texts of at most so many bytes of UTF-8: lengths in a schema are counted in characters."""
    texts = st.text(st.characters(exclude_categories=["Cs"], **characters), max_size=256)
    return texts.filter(lambda text: len(text.encode()) <= most_bytes)


schemathesis.openapi.format("sku", text(64, exclude_characters=",").map(str.strip).filter(bool))
schemathesis.openapi.format("utf-8-64k", text(65536, exclude_characters="\0"))
amounts = st.decimals(min_value=0, max_value=999999, places=2).map(str)
schemathesis.openapi.format("prices-csv", amounts.map("product_id,amount,currency\n1,{},GBP\n".format))


@schemathesis.serializer("text/csv")
def as_it_is(context, value):
    return value.encode() if isinstance(value, str) else str(value).encode()


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or case.meta.generation.mode.is_negative:
        return
    if case.headers.get("If-Match") == "":
        # The shortest text is thought up without a look at the pattern.
        case.headers["If-Match"] = "*"
    if "Idempotency-Key" in case.headers:
        # A key belongs to one request.
        case.headers["Idempotency-Key"] = str(uuid4())
    if case.operation.label == "GET /v1/products":
        one_list(case.query)
    if case.operation.label == "GET /v1/products/{id}/views":
        window(case.query)
    if case.operation.label == "POST /v1/reservations" and isinstance(case.body, dict):
        case.body["items"] = list({item["product_id"]: item for item in case.body["items"]}.values())
    if case.operation.label == "POST /v1/products/{id}/stock/adjustments" and isinstance(case.body, dict):
        case.body["delta"] = case.body["delta"] or 1
    if "/v1/reservations/{id}" in case.operation.label and case.path_parameters.get("id") in (None, "None"):
        # A change of stock that is of no reservation was followed.
        case.path_parameters["id"] = str(uuid4())
    if case.operation.label == "POST /v1/prices/batch" and isinstance(case.body, dict):
        one_known_product(case.body["items"])


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """A tag that is thought up is rarely that of the product. Leaving the body out counts as one way to spoil it, but here it is
    one view; other parts must be as they should."""
    if response.status_code == 412 and "If-Match" in case.headers and isinstance(failure, RejectedPositiveData):
        return False
    if case.operation.label != "POST /v1/products/{id}/views" or not isinstance(failure, AcceptedNegativeData):
        return True
    nothing = case.body in (NOT_SET, "", b"")
    others_are_fine = not case.query or set(case.query) == {"k"}
    return not (nothing and others_are_fine and str(case.path_parameters.get("id", "")).isdigit())


def one_list(query):
    """Either ids, or skus, or a page; and a cursor is what an answer gave, so none that is thought up is sent as valid."""
    query.pop("cursor", None)
    kept = next((name for name in ("ids", "skus") if name in query), None)
    for name in query.keys() - {kept} if kept else ():
        query.pop(name)
    within_years(query, "updated_since")


def one_known_product(items):
    """A row for each product, and products that are there: the one that the examples speak of, whatever its version."""
    del items[1:]
    items[0].pop("sku", None)
    items[0].pop("if_version", None)
    items[0]["product_id"] = 1


def window(query):
    """From before to, both in 1970 to 9999, at most 744 buckets, days at whole hours: to becomes three days after from."""
    if query.get("interval") == "day" and ":" in query.get("tz", ""):
        query["tz"] = query["tz"][:-2] + "00"
    within_years(query, "from")
    within_years(query, "to")
    if "from" in query:
        start = datetime.fromisoformat(query["from"])
        query["to"] = (start + timedelta(days=3)).isoformat()


def within_years(query, name):
    if name in query:
        time = datetime.fromisoformat(query[name])
        if not 1971 <= time.year <= 9998:
            query[name] = time.replace(year=2011, day=1, tzinfo=timezone.utc).isoformat()
