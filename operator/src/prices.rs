//! List prices of other APIs, from the chart's ConfigMap: what served tokens would have cost there.

use crds::Decimal;
use planner::cost::Tokens;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The table is a page; a larger file is another one.
const BYTES_MAX: u64 = 1 << 20;

/// A table of prices that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PricesError {
    #[error("read the prices in {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the prices in {} have {bytes} bytes; at most {BYTES_MAX} are read", path.display())]
    TooLong { path: PathBuf, bytes: u64 },
    #[error("the prices in {} are no table of models; write them in the chart's values", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("prices.models.{model}: {cause}")]
    Price { model: String, cause: String },
}

/// Prices of a million tokens of each kind, in millionths of the table's currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ListPrice {
    input: u64,
    cached_input: u64,
    output: u64,
}

/// All list prices, with the currency that they are in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    currency: String,
    models: BTreeMap<String, ListPrice>,
}

#[derive(Deserialize)]
struct Table {
    currency: String,
    models: BTreeMap<String, Row>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    input: String,
    cached_input: Option<String>,
    output: String,
}

impl Prices {
    /// Reads a table as the chart writes it.
    ///
    /// # Errors
    /// [`PricesError`] with the file or the model.
    pub fn read(path: &Path) -> Result<Self, PricesError> {
        let failed = |source| PricesError::Read { path: path.to_owned(), source };
        let bytes = std::fs::metadata(path).map_err(failed)?.len();
        if bytes > BYTES_MAX {
            return Err(PricesError::TooLong { path: path.to_owned(), bytes });
        }
        let text = std::fs::read(path).map_err(failed)?;
        let table: Table = serde_json::from_slice(&text)
            .map_err(|source| PricesError::Parse { path: path.to_owned(), source })?;
        let mut models = BTreeMap::new();
        for (model, row) in table.models {
            let price = row.price().map_err(|error| PricesError::Price {
                model: model.clone(),
                cause: error.to_string(),
            })?;
            models.insert(model, price);
        }
        Ok(Self { currency: table.currency, models })
    }

    /// What a million tokens of this mix cost at a model's list price; `None` when the table lacks it, when it is in
    /// another currency, or when nothing was served.
    #[allow(clippy::cast_precision_loss)] // Money for people to look at.
    pub fn per_million_tokens(&self, model: &str, currency: &str, mix: &Tokens) -> Option<f64> {
        let price = self.models.get(model).filter(|_| self.currency == currency)?;
        let total = mix.total();
        let part = |tokens: u64, millionths: u64| tokens as f64 * millionths as f64;
        let sum = part(mix.prompt, price.input)
            + part(mix.cached, price.cached_input)
            + part(mix.reasoning, price.output)
            + part(mix.answer, price.output);
        (total > 0).then(|| sum / total as f64 / 1e6)
    }
}

impl Row {
    fn price(&self) -> Result<ListPrice, crds::QuantityError> {
        let input = Decimal::parse(&self.input)?.millionths;
        // An API without a price for cached tokens charges them like others.
        let cached = self.cached_input.as_deref().map(Decimal::parse).transpose()?;
        Ok(ListPrice {
            input,
            cached_input: cached.map_or(input, |price| price.millionths),
            output: Decimal::parse(&self.output)?.millionths,
        })
    }
}
