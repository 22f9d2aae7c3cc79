// The Rust crate procfs, asked for the map of a process: peer maps|smaps PID REPEAT; nanoseconds of each time.
use procfs::process::Process;
use std::time::Instant;
fn main() {
    let words: Vec<String> = std::env::args().collect();
    let process = Process::new(words[2].parse().unwrap()).unwrap();
    for _ in 0..words[3].parse::<u32>().unwrap() {
        let begin = Instant::now();
        let count = if words[1] == "smaps" { process.smaps().unwrap().len() } else { process.maps().unwrap().len() };
        let taken = begin.elapsed().as_nanos();
        assert!(count > 0);
        println!("{}", taken);
    }
}
