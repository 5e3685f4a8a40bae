"""A trained filter: from mails to probabilities, and which words made them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor, nn

import pyfastnn
from pyfastnn.sklearn import MLPClassifier
from spam_filter.features import restored_vectorizer
from spam_filter.mail import MailText

ROWS_AT_A_TIME = 128  # they are made dense


@dataclass(frozen=True)
class SpamFilter:
    """Words, their weights and a network.

    Attributes:
        vocabulary: the word of each column.
        idf: float32 ``[words]``, its weight.
        network: maps rows ``[n, words]`` to log-odds of spam ``[n, 1]``.
        trained_on: in words, on what.
    """

    vocabulary: list[str]
    idf: Tensor
    network: nn.Module
    trained_on: str

    @classmethod
    def of(cls, vectorizer: TfidfVectorizer, model: MLPClassifier, trained_on: str) -> SpamFilter:
        """Take over what has been fitted."""
        vocabulary = [str(word) for word in vectorizer.get_feature_names_out()]
        idf = torch.from_numpy(vectorizer.idf_.astype(np.float32))
        return cls(vocabulary, idf, pyfastnn.fuse(model.to_torch()), trained_on)

    def probabilities(self, mails: Sequence[MailText]) -> npt.NDArray[np.float64]:
        """Return the probability that it is spam for each mail, ``[n]``."""
        with torch.inference_mode():
            log_odds = pyfastnn.prepack(self.network)(self._rows(mails))  # sparse rows as they are
            return torch.sigmoid(log_odds.double()).flatten().numpy()

    def telling(
        self, mails: Sequence[MailText], smallest_share: float = 0.0
    ) -> list[tuple[str, float]]:
        """Return words with what they add to the log-odds of spam, the most telling first.

        To first order: the value of the word in a mail times the derivative with respect to it; the
        mean over the mails that have the word.

        Args:
            mails: where to look.
            smallest_share: of the mails, in which a word must occur to be told.
        """
        rows = self._rows(mails)
        total = torch.zeros(len(self.vocabulary))
        for part in _parts(rows):
            x = part.requires_grad_()
            (gradient,) = torch.autograd.grad(self.network(x).sum(), x)
            total += (x.detach() * gradient).sum(0)
        count = torch.from_numpy(rows.getnnz(axis=0))
        mean = total / count.clamp(min=1)
        told = ((count > 0) & (count >= smallest_share * len(mails))).nonzero().flatten()
        order = told[mean[told].abs().argsort(descending=True, stable=True)]
        return [(self.vocabulary[i], mean[i].item()) for i in order.tolist()]

    def _rows(self, mails: Sequence[MailText]) -> csr_array:
        return restored_vectorizer(self.vocabulary, self.idf.numpy()).transform(mails)


def _parts(rows: csr_array) -> Iterator[Tensor]:
    """Yield a few rows at a time, dense."""
    for first in range(0, rows.shape[0], ROWS_AT_A_TIME):
        yield torch.from_numpy(rows[first : first + ROWS_AT_A_TIME].toarray())
