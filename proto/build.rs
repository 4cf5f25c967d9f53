//! Compiles `proto/boyle/v1` with protox, so that no protoc has to be installed, and declares the exchange's service,
//! whose frames do not travel through prost.

use std::env;
use std::path::{Path, PathBuf};
use tonic_prost_build::manual;

/// The service whose frames do not travel through prost, and its one method.
const EXCHANGE: &str = "Exchange";
const RUN: &str = "Run";
const PACKAGE: &str = "boyle.v1";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["generate", "agent", "router", "exchange"]
        .map(|name| format!("proto/boyle/v1/{name}.proto"));
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");
    let descriptors = protox::compile(files, ["proto"])?;
    let mut methods = vec![format!("/{PACKAGE}.{EXCHANGE}/{RUN}")];
    for file in &descriptors.file {
        for service in &file.service {
            let path = format!("/{}.{}", file.package(), service.name());
            methods.extend(service.method.iter().map(|it| format!("{path}/{}", it.name())));
        }
    }
    let listed = PathBuf::from(env::var("OUT_DIR")?).join("methods.rs");
    std::fs::write(listed, format!("&{methods:?}"))?;
    tonic_prost_build::configure().bytes(".").btree_map(".").compile_fds(descriptors)?;
    manual::Builder::new().compile(&[exchange()]);
    println!("cargo:rustc-env=BOYLE_GENERATED={}", generated()?.display());
    Ok(())
}

/// The folder with the generated code as seen from `src`. Panic messages hold the paths of sources: whole ones would make
/// another program in every clone.
fn generated() -> Result<PathBuf, env::VarError> {
    let output = PathBuf::from(env::var("OUT_DIR")?);
    let crate_folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let below_root = crate_folder.parent().and_then(|root| output.strip_prefix(root).ok());
    Ok(below_root.map_or_else(|| output.clone(), |inside| Path::new("../..").join(inside)))
}

/// `rpc Run(stream ExchangeFrame) returns (stream ExchangeFrame)`.
fn exchange() -> manual::Service {
    let run = manual::Method::builder()
        .name("run")
        .route_name(RUN)
        .comment("Hello first, then calls one way and their answers the other way, in any order.")
        .input_type("crate::exchange::ExchangeFrame")
        .output_type("crate::exchange::ExchangeFrame")
        .codec_path("crate::exchange::ExchangeCodec")
        .client_streaming()
        .server_streaming()
        .build();
    manual::Service::builder()
        .name(EXCHANGE)
        .package(PACKAGE)
        .comment("Token rows to experts and their outputs back.")
        .method(run)
        .build()
}
