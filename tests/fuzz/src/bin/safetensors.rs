//! libFuzzer's program for `nave_fuzz::safetensors`.
#![cfg_attr(fuzzing, no_main)]

nave_fuzz::program!(safetensors);
