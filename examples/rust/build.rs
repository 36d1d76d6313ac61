// SPDX-License-Identifier: MIT
//! Finds libbnb: in the folder that BNB_LIB_DIR names, else by asking pkg-config.

use std::env;
use std::process::{exit, Command};

fn main() {
    println!("cargo:rerun-if-env-changed=BNB_LIB_DIR");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_SYSROOT_DIR");
    let folders = match env::var("BNB_LIB_DIR") {
        Ok(folder) => vec![folder],
        Err(_) => ask_pkg_config(),
    };
    for folder in folders {
        println!("cargo:rustc-link-search=native={folder}");
        // So that `cargo run` finds the library where it was linked.
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
    println!("cargo:rustc-link-lib=bnb");
}

/// The folders after -L; none if the linker looks there anyway.
fn ask_pkg_config() -> Vec<String> {
    let output = match Command::new("pkg-config").args(["--libs", "libbnb"]).output() {
        Ok(output) if output.status.success() => output,
        Ok(output) => give_up(&String::from_utf8_lossy(&output.stderr)),
        Err(error) => give_up(&error.to_string()),
    };
    String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("-L").map(str::to_owned))
        .collect()
}

fn give_up(why: &str) -> ! {
    eprintln!("pkg-config does not find libbnb: {}", why.trim());
    eprintln!("Install libbnb, or set BNB_LIB_DIR to the folder of libbnb.so.");
    exit(1);
}
