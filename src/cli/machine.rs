//! What this machine has: memory of the processor, and NVIDIA's GPUs as their driver tells.

use std::process::{Command, Stdio};

/// Memory of the machine, or of the group of processes that this one is held in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// All of it, in bytes.
    pub total: u64,
    /// What can be had now, in bytes.
    pub available: u64,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gpu {
    /// As its maker calls it.
    pub name: String,
    /// Its memory.
    pub memory: Memory,
}

/// Where Linux tells how much memory a group of processes may take.
const GROUP_LIMIT: &str = "/sys/fs/cgroup/memory.max";

/// The processor's memory, where the system says it.
pub(super) fn memory() -> Option<Memory> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    let limit = std::fs::read_to_string(GROUP_LIMIT).ok().and_then(|text| text.trim().parse().ok());
    read_memory(&told, limit)
}

fn read_memory(told: &str, limit: Option<u64>) -> Option<Memory> {
    let bytes = |key: &str| -> Option<u64> {
        let line = told.lines().find_map(|line| line.strip_prefix(key))?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kibibytes * 1024)
    };
    let limit = limit.unwrap_or(u64::MAX);
    Some(Memory { total: bytes("MemTotal:")?.min(limit), available: bytes("MemAvailable:")?.min(limit) })
}

/// NVIDIA's GPUs; none where there is no driver.
pub(super) fn gpus() -> Vec<Gpu> {
    let mut command = Command::new("nvidia-smi");
    command.args(["--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]).stdin(Stdio::null());
    let told = command.output().ok().filter(|output| output.status.success());
    told.map_or_else(Vec::new, |output| read_gpus(&String::from_utf8_lossy(&output.stdout)))
}

fn read_gpus(told: &str) -> Vec<Gpu> {
    let gpu = |line: &str| {
        let (rest, free) = line.rsplit_once(',')?;
        let (name, total) = rest.rsplit_once(',')?;
        let mebibytes = |text: &str| text.trim().parse::<u64>().ok().map(|count| count << 20);
        Some(Gpu { name: name.trim().into(), memory: Memory { total: mebibytes(total)?, available: mebibytes(free)? } })
    };
    told.lines().filter_map(gpu).collect()
}

/// Bytes of addresses that this process may still take; `None` where nothing limits them, or the system does not say.
pub(super) fn address_space() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let number = |text: &str| text.trim().trim_end_matches("kB").trim().parse::<u64>().ok();
    let line = |text: &str, name: &str| Some(text.lines().find_map(|line| line.strip_prefix(name))?.to_owned());
    let most = line(&read("/proc/self/limits")?, "Max address space")?;
    let most = number(most.split_whitespace().next()?)?;
    let used = number(&line(&read("/proc/self/status")?, "VmSize:")?)? * 1024;
    Some(most.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_linux_tells_it_and_a_group_is_held_to_its_limit() {
        let told = "MemTotal:       24000000 kB\nMemFree:         1000 kB\nMemAvailable:   20000000 kB\n";
        let all = read_memory(told, None).expect("memory");
        assert_eq!((all.total, all.available), (24_000_000 * 1024, 20_000_000 * 1024));
        let held = read_memory(told, Some(1 << 30)).expect("memory");
        assert_eq!((held.total, held.available), (1 << 30, 1 << 30));
        assert_eq!(read_memory("MemTotal: many", None), None);
    }

    #[test]
    fn gpus_are_read_as_their_driver_tells_them() {
        let told = "NVIDIA H200, 143771, 143000\nOdd, name, 24564, 20000\nNVIDIA Y, [N/A], [N/A]\n";
        let found = read_gpus(told);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].memory, Memory { total: 143_771 << 20, available: 143_000 << 20 });
        assert_eq!(found[1].name, "Odd, name");
    }
}
