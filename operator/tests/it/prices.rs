//! List prices, as the chart delivers them.

use crate::chart;
use operator::prices::Prices;
use planner::cost::Tokens;
use std::path::PathBuf;

/// The chart's table in a file, as the operator finds it mounted.
fn mounted(folder: &tempfile::TempDir, arguments: &[&str]) -> PathBuf {
    let objects = chart::objects(arguments);
    let table = objects.iter().find(|it| it["metadata"]["name"] == "boyle-prices").unwrap();
    let path = folder.path().join("prices.json");
    std::fs::write(&path, table["data"]["prices.json"].as_str().unwrap()).unwrap();
    path
}

#[test]
fn the_charts_table_prices_a_mix_of_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let prices = Prices::read(&mounted(&folder, &[])).unwrap();
    let mix = Tokens { prompt: 200, cached: 200, reasoning: 400, answer: 200 };
    // 200 × 15 + 200 × 7.5 + 600 × 60 = 40,500 of 1,000 tokens.
    assert_eq!(prices.per_million_tokens("openai/o1", "USD", &mix), Some(40.5));
    let cases = [
        ("openai/o1", "EUR", mix),
        ("openai/unknown", "USD", mix),
        ("openai/o1", "USD", Tokens::default()),
    ];
    for (model, currency, mix) in cases {
        assert_eq!(prices.per_million_tokens(model, currency, &mix), None, "{model} {currency}");
    }
}

#[test]
fn cached_tokens_without_a_price_of_their_own_cost_as_others() {
    let folder = tempfile::tempdir().unwrap();
    let row = "--set-json=prices.models={\"a/b\":{\"input\":\"2\",\"output\":\"3\"}}";
    let prices = Prices::read(&mounted(&folder, &[row])).unwrap();
    let mix = Tokens { cached: 10, ..Tokens::default() };
    assert_eq!(prices.per_million_tokens("a/b", "USD", &mix), Some(2.0));
}

#[test]
fn tables_that_cannot_be_used_say_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prices.json");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Prices::read(&path).unwrap_err().to_string()
    };
    assert!(read("[]").contains("prices.json"), "{}", read("[]"));
    let wrong = r#"{"currency": "USD", "models": {"a/b": {"input": "cheap", "output": "1"}}}"#;
    assert!(read(wrong).contains("prices.models.a/b"), "{}", read(wrong));
    std::fs::remove_file(&path).unwrap();
    assert!(Prices::read(&path).unwrap_err().to_string().contains("read the prices"));
}
