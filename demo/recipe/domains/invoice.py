"""Invoices: who wants how much, by when.

Data only; the meaning of each part is in `domain.py`.
"""

from typing import Final

from outrider.demo.recipe import words
from outrider.demo.recipe.domain import Domain, Field, phrases
from outrider.demo.recipe.words import Writer

INVOICE: Final = Domain(
    "invoice",
    {
        "number": Field(
            "string",
            Writer.code,
            "invoice number",
            ("invoice id", "reference", "number"),
            (
                "The invoice is {}.",
                "Its number is {}.",
                "See invoice {}.",
                "This is invoice {}.",
                "The reference is {}.",
                "It has the number {}.",
                "Please quote {}.",
                "You find it as {}.",
            ),
        ),
        "vendor": Field(
            "string",
            Writer.company,
            "vendor",
            ("seller", "company", "supplier"),
            (
                "It was sent by {}.",
                "It came from {}.",
                "The seller is {}.",
                "The vendor is {}.",
                "{} sent it.",
                "We bought from {}.",
                "We received it from {}.",
                "{} wants the money.",
            ),
        ),
        "total": Field(
            "number",
            Writer.price,
            "total",
            ("amount", "sum", "total amount"),
            (
                "It is over {}.",
                "We owe {}.",
                "The sum is {}.",
                "The amount is {}.",
                "In total it is {}.",
                "It costs {}.",
                "It adds up to {}.",
                "Altogether it is {}.",
            ),
        ),
        "currency": Field(
            "enum",
            lambda writer: writer.known(words.CURRENCIES),
            "currency",
            ("currency code",),
            (
                "It is in {}.",
                "Pay in {}.",
                "All amounts are in {}.",
                "The currency is {}.",
                "The amount is in {}.",
                "We need {} for it.",
                "We pay this in {}.",
                "It was billed in {}.",
            ),
            choices=words.CURRENCIES,
        ),
        "due": Field(
            "string",
            Writer.date,
            "due date",
            ("pay by", "deadline", "due"),
            (
                "It is due on {}.",
                "Pay by {}.",
                "The deadline is {}.",
                "The due date is {}.",
                "We must pay before {}.",
                "Payment is due {}.",
                "It must be paid by {}.",
                "The last day to pay is {}.",
            ),
        ),
        "paid": Field(
            "boolean",
            lambda writer: writer.chance(0.5),
            "paid",
            ("is paid", "settled"),
            (
                "The invoice {}.",
                "It {}.",
                "As of today it {}.",
                "This invoice {}.",
                "By now it {}.",
                "As far as we know it {}.",
                "According to the bank it {}.",
                "At the moment it {}.",
            ),
            phrases("is paid", "is not paid"),
        ),
        "payer": Field(
            "string",
            Writer.person,
            "payer",
            ("billed to", "customer", "contact"),
            (
                "It was billed to {}.",
                "{} has to pay it.",
                "It is addressed to {}.",
                "The payer is {}.",
                "It goes to {}.",
                "{} will pay it.",
                "Our contact is {}.",
                "The bill is for {}.",
            ),
        ),
    },
    (
        "Invoice {number} from {vendor} over {total} {currency} is due on {due}.",
        "Invoice {number}: {vendor}, total {total} {currency}, due {due}.",
        "{vendor} sent invoice {number} for {total} {currency}.",
        "Please pay {total} {currency} to {vendor} by {due}.",
        "We owe {vendor} {total} {currency} until {due}.",
        "The invoice {number} of {vendor} must be paid by {due}.",
        "Invoice {number} from {vendor} {paid}.",
        "{vendor} billed {payer} {total} {currency}.",
        "{payer} has to pay {total} {currency} to {vendor}.",
        "Invoice {number} over {total} {currency} was sent by {vendor}.",
        "{number} is an invoice of {vendor}, due on {due}.",
        "By {due} we must pay {vendor} {total} {currency} for invoice {number}.",
        "An invoice of {total} {currency}, {number}, arrived from {vendor}.",
        "The bill {number} from {vendor} is over {total} {currency}.",
    ),
)
