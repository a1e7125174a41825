"""Keys of requests, and the answers that they were given."""

from datetime import datetime

from sqlalchemy import Index, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from compute.db.tables.base import NOW, Base

__all__ = ["IdempotencyKey"]


class IdempotencyKey(Base):
    """The first answer to a creating request, replayed to everyone who sends its key again."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    status_code: Mapped[int] = mapped_column(SmallInteger)
    answer: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

    __table_args__ = (Index("idempotency_keys_created", "created_at"),)
