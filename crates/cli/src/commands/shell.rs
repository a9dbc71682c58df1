//! Completions for shells and manual pages, made from the program's own description of its options.

use std::io::{self, Write};
use std::path::Path;

use clap_complete::Shell;
use pupilla_files::atomic_file;

use crate::{options, output};

/// `pupilla completions`: prints the script for a shell.
pub fn completions(shell: Shell) -> anyhow::Result<()> {
    // Not into standard output at once: the generator panics if nobody reads it.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut options::command(), "pupilla", &mut script);
    Ok(io::stdout().lock().write_all(&script)?)
}

/// `pupilla man`: writes a page for the program and one for each command.
pub fn manual(folder: &Path) -> anyhow::Result<()> {
    let _folder = output::folder(folder)?;
    write_pages(&options::command(), folder)
}

fn write_pages(command: &clap::Command, folder: &Path) -> anyhow::Result<()> {
    let page = clap_mangen::Man::new(command.clone());
    let mut text = Vec::new();
    page.render(&mut text)?;
    atomic_file::write_bytes(&folder.join(page.get_filename()), &text)?;
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
        .try_for_each(|command| write_pages(command, folder))
}
