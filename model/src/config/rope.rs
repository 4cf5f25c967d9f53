//! Rotary frequencies as Hugging Face transformers computes them (`modeling_rope_utils.py`), in f64, rounded once.

use std::f64::consts::TAU;

use super::fields::Fields;
use super::{ConfigError, Rope, RopePairing, limits};

/// What transformers assumes when the field is absent.
const THETA_DEFAULT: f64 = 10_000.0;
const BETA_FAST_DEFAULT: f64 = 32.0;
const BETA_SLOW_DEFAULT: f64 = 1.0;
/// Keeps yarn's ramp from dividing by zero when both ends fall on one pair.
const RAMP_WIDTH_MIN: f64 = 0.001;
const ACCEPTED_TYPES: &str = "default, linear, yarn or llama3";

/// Rope and the factor that its scaling puts on the softmax scale of MLA.
pub(super) struct ScaledRope {
    pub(super) rope: Rope,
    /// m² with m = 0.1 · mscale_all_dim · ln(factor) + 1, as DeepSeek's attention applies it; 1 without scaling.
    pub(super) mla_softmax_factor: f64,
}

/// Reads `rope_theta` and `rope_scaling` (or the newer `rope_parameters`, which holds both) for `dimensions`
/// rotated elements of a head.
pub(super) fn parse_rope(
    config: Fields<'_>,
    dimensions: usize,
    pairing: RopePairing,
) -> Result<ScaledRope, ConfigError> {
    let parameters = rope_object(config)?;
    let theta =
        match parameters.map(|fields| fields.number_if_present("rope_theta", limits::ROPE_THETA)) {
            Some(theta) => theta?,
            None => None,
        };
    let theta = match theta {
        Some(theta) => theta,
        None => {
            config.number_if_present("rope_theta", limits::ROPE_THETA)?.unwrap_or(THETA_DEFAULT)
        }
    };
    let plain = (0..dimensions / 2)
        .map(|pair| theta.powf(-2.0 * pair as f64 / dimensions as f64))
        .collect();
    let Some(parameters) = parameters else { return Ok(scaled(plain, 1.0, 1.0, pairing)) };
    match rope_type(parameters)? {
        "default" => Ok(scaled(plain, 1.0, 1.0, pairing)),
        "linear" => {
            let factor = parameters.number("factor", limits::ROPE_FACTOR)?;
            let divided = plain.iter().map(|frequency| frequency / factor).collect();
            Ok(scaled(divided, 1.0, mla_softmax_factor(parameters, factor)?, pairing))
        }
        "yarn" => parse_yarn(config, parameters, &Plain { theta, frequencies: plain }, pairing),
        "llama3" => Ok(scaled(llama3(parameters, &plain)?, 1.0, 1.0, pairing)),
        _ => {
            let name = if parameters.value("rope_type").is_some() { "rope_type" } else { "type" };
            Err(parameters.unsupported(name, ACCEPTED_TYPES))
        }
    }
}

/// Unscaled frequencies and the base they come from.
struct Plain {
    theta: f64,
    frequencies: Vec<f64>,
}

fn scaled(
    frequencies: Vec<f64>,
    amplitude: f64,
    mla_softmax_factor: f64,
    pairing: RopePairing,
) -> ScaledRope {
    let inverse_frequencies = frequencies.into_iter().map(|frequency| frequency as f32).collect();
    let rope = Rope { inverse_frequencies, amplitude: amplitude as f32, pairing };
    ScaledRope { rope, mla_softmax_factor }
}

/// The object that describes scaling, under its newer or older name.
fn rope_object(config: Fields<'_>) -> Result<Option<Fields<'_>>, ConfigError> {
    let older = config.object_if_present("rope_scaling", "rope_scaling.")?;
    let newer = config.object_if_present("rope_parameters", "rope_parameters.")?;
    if newer.is_some()
        && older.is_some()
        && config.value("rope_parameters") != config.value("rope_scaling")
    {
        return Err(config
            .invalid("rope_scaling", "absent or equal to rope_parameters when both are written"));
    }
    let Some(object) = newer.or(older) else { return Ok(None) };
    if let Some((name, _)) = object.iter().find(|(_, value)| value.is_object()) {
        return Err(object.unsupported(name, "one set of parameters for all layers"));
    }
    Ok(Some(object))
}

fn rope_type<'a>(parameters: Fields<'a>) -> Result<&'a str, ConfigError> {
    match parameters.text_if_present("rope_type")? {
        Some(name) => Ok(name),
        None => Ok(parameters.text_if_present("type")?.unwrap_or("default")),
    }
}

/// Yarn's attention temperature for a context that is `factor` times longer.
fn attention_mscale(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

fn mla_softmax_factor(parameters: Fields<'_>, factor: f64) -> Result<f64, ConfigError> {
    let mscale_all_dim =
        parameters.number_if_present("mscale_all_dim", limits::ROPE_MSCALE)?.unwrap_or(0.0);
    Ok(if mscale_all_dim == 0.0 { 1.0 } else { attention_mscale(factor, mscale_all_dim).powi(2) })
}

fn parse_yarn(
    config: Fields<'_>,
    parameters: Fields<'_>,
    plain: &Plain,
    pairing: RopePairing,
) -> Result<ScaledRope, ConfigError> {
    let context = config.size("max_position_embeddings", limits::CONTEXT)? as f64;
    let original = parameters
        .size_if_present("original_max_position_embeddings", limits::CONTEXT)?
        .map_or(context, |tokens| tokens as f64);
    let factor = match parameters.number_if_present("factor", limits::ROPE_FACTOR)? {
        Some(factor) => factor,
        None if original <= context => context / original,
        None => return Err(parameters.missing("factor", "the context extension, for example 40")),
    };
    let amplitude = yarn_amplitude(parameters, factor)?;
    let (low, high) = yarn_range(parameters, plain, original)?;
    let width = if high == low { RAMP_WIDTH_MIN } else { high - low };
    let interpolate = |(pair, frequency): (usize, &f64)| {
        let ramp = ((pair as f64 - low) / width).clamp(0.0, 1.0);
        frequency / factor * ramp + frequency * (1.0 - ramp)
    };
    let frequencies = plain.frequencies.iter().enumerate().map(interpolate).collect();
    Ok(scaled(frequencies, amplitude, mla_softmax_factor(parameters, factor)?, pairing))
}

fn yarn_amplitude(parameters: Fields<'_>, factor: f64) -> Result<f64, ConfigError> {
    let given = parameters.number_if_present("attention_factor", limits::ROPE_AMPLITUDE)?;
    let mscale = parameters.number_if_present("mscale", limits::ROPE_MSCALE)?.unwrap_or(0.0);
    let all_dim =
        parameters.number_if_present("mscale_all_dim", limits::ROPE_MSCALE)?.unwrap_or(0.0);
    Ok(match given {
        Some(amplitude) => amplitude,
        None if mscale != 0.0 && all_dim != 0.0 => {
            attention_mscale(factor, mscale) / attention_mscale(factor, all_dim)
        }
        None => attention_mscale(factor, 1.0),
    })
}

/// First pair that is not fully extrapolated and first that is fully interpolated.
fn yarn_range(
    parameters: Fields<'_>,
    plain: &Plain,
    original: f64,
) -> Result<(f64, f64), ConfigError> {
    let rotations = |name, default| -> Result<f64, ConfigError> {
        Ok(parameters.number_if_present(name, limits::ROPE_ROTATIONS)?.unwrap_or(default))
    };
    let fast = rotations("beta_fast", BETA_FAST_DEFAULT)?;
    let slow = rotations("beta_slow", BETA_SLOW_DEFAULT)?;
    if fast < slow {
        return Err(parameters.invalid("beta_fast", "at least beta_slow"));
    }
    let dimensions = 2.0 * plain.frequencies.len() as f64;
    let correction = |rotations: f64| {
        dimensions * (original / (rotations * TAU)).ln() / (2.0 * plain.theta.ln())
    };
    let (low, high) = match parameters.flag_if_present("truncate")?.unwrap_or(true) {
        true => (correction(fast).floor(), correction(slow).ceil()),
        false => (correction(fast), correction(slow)),
    };
    Ok((low.max(0.0), high.min(dimensions - 1.0)))
}

/// Long waves are divided by `factor`, short ones kept, those between blended.
fn llama3(parameters: Fields<'_>, plain: &[f64]) -> Result<Vec<f64>, ConfigError> {
    let factor = parameters.number("factor", limits::ROPE_FACTOR)?;
    let low = parameters.number("low_freq_factor", limits::ROPE_ROTATIONS)?;
    let high = parameters.number("high_freq_factor", limits::ROPE_ROTATIONS)?;
    let original = parameters.size("original_max_position_embeddings", limits::CONTEXT)? as f64;
    if high <= low {
        return Err(parameters.invalid("high_freq_factor", "above low_freq_factor"));
    }
    let scale = |frequency: &f64| {
        let wavelength = TAU / frequency;
        if wavelength > original / low {
            frequency / factor
        } else if wavelength < original / high {
            *frequency
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            (1.0 - smooth) * frequency / factor + smooth * frequency
        }
    };
    Ok(plain.iter().map(scale).collect())
}
