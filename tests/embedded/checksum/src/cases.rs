//! The methods.

use klshampoo::{Config, Format};

type Case = (&'static str, Config<f32>);

/// Every named method, the conventions whose steps differ most, and what else changes what is computed.
pub const CASES: [Case; 27] = [
    ("KL-Shampoo", Config::<f32>::kl_shampoo()),
    ("KL-Shampoo, refreshes in portions", Config { refresh_portion: 400, ..Config::<f32>::kl_shampoo() }),
    ("KL-Shampoo, factors in bf16", Config { factor_format: Format::Bf16, ..Config::<f32>::kl_shampoo() }),
    ("KL-Shampoo, factors in f16", Config { factor_format: Format::F16, ..Config::<f32>::kl_shampoo() }),
    ("KL-Shampoo, reference", Config::<f32>::kl_shampoo_reference()),
    ("KL-SOAP", Config::<f32>::kl_soap()),
    ("SOAP", Config::<f32>::soap()),
    ("SOAP, reference", Config::<f32>::soap_reference()),
    ("Shampoo", Config::<f32>::shampoo()),
    ("Shampoo 1/2", Config::<f32>::shampoo_half()),
    ("Shampoo 1/4", Config::<f32>::shampoo_quarter()),
    ("Shampoo, reference", Config::<f32>::shampoo_reference()),
    ("VN-Shampoo 1", Config::<f32>::vn_shampoo_1()),
    ("VN-Shampoo 2", Config::<f32>::vn_shampoo_2()),
    ("F-Shampoo 1", Config::<f32>::f_shampoo_1()),
    ("F-Shampoo 2", Config::<f32>::f_shampoo_2()),
    ("idealized KL", Config::<f32>::idealized_kl()),
    ("idealized VN 1", Config::<f32>::idealized_vn_1()),
    ("idealized VN 2", Config::<f32>::idealized_vn_2()),
    ("idealized F 1", Config::<f32>::idealized_f_1()),
    ("idealized F 2", Config::<f32>::idealized_f_2()),
    ("instantaneous KL", Config::<f32>::instantaneous_kl()),
    ("one-sided", Config::<f32>::one_sided()),
    ("Adafactor", Config::<f32>::adafactor()),
    ("AdamW", Config::<f32>::adamw()),
    ("RMSProp", Config::<f32>::rmsprop()),
    ("SGD", Config::<f32>::sgd()),
];
