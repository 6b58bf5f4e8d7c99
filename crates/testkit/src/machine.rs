//! A machine with systemd and sshd: this machine's own files under an overlay, started as a container with processes,
//! mounts and a host name of its own. It uses this machine's network, with ports that are ours. Needs root.
//!
//! All that is written there goes away with it, also if the test is killed: its mounts are in a namespace, and its first
//! process is told when ours ends.

use crate::block::Block;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Somebody who may log in and use sudo.
pub const ADMIN: &str = "pgdb-admin";
/// Somebody who may log in and no more.
pub const GUEST: &str = "pgdb-guest";

/// Where the provider's volumes appear.
const VOLUME: &str = "/dev/disk/by-id/scsi-0HC_Volume_4711";
const VOLUME_BYTES: u64 = 512 * 1024 * 1024;

/// What an installed pgdb keeps. A pgdb of this machine's own is not there: the machine is a new one.
const HIDDEN: &str = "/etc/pgdb /etc/systemd/system/pgdb.service /etc/systemd/system/pgdb.service.d \
                      /etc/systemd/system/pgdbd.service /etc/systemd/system/multi-user.target.wants/pgdb.service \
                      /etc/systemd/system/multi-user.target.wants/pgdbd.service /mnt/pgdb /usr/local/bin/pgdb \
                      /usr/local/bin/pgdbd /var/lib/pgdb";

/// Makes the overlay and becomes the container: `$1` is the folder of ours, `$2` the machine's name, `$3` what is hidden (by
/// what an overlay writes for a removed file), and all others are what it has of this machine.
const START: &str = r#"
set -eu
mount -t tmpfs -o mode=0755 tmpfs "$1/disk"
mkdir "$1/disk/upper" "$1/disk/work" "$1/disk/root"
for hidden in $3; do
  [ ! -e "$hidden" ] && [ ! -L "$hidden" ] && continue
  mkdir -p "$1/disk/upper${hidden%/*}"
  mknod "$1/disk/upper$hidden" c 0 0
done
mount -t overlay overlay -o "lowerdir=$1/files:/,upperdir=$1/disk/upper,workdir=$1/disk/work" "$1/disk/root"
root="$1/disk/root" name="$2"
shift 3
exec systemd-nspawn --quiet --directory="$root" --machine="$name" --register=no --keep-unit --console=pipe \
  --resolv-conf=off --timezone=off --link-journal=no --tmpfs=/tmp "$@" --boot -- systemd.unit=pgdb-test.target
"#;

const TARGET: &str = "[Unit]\nRequires=basic.target pgdb-test-sshd.service\nAfter=basic.target\nAllowIsolate=yes\n";

/// A running machine; dropping it ends it.
#[derive(Debug)]
pub struct Machine {
    block: Block,
    process: Child,
    /// A loop device of this machine, which that one sees as a volume of the provider.
    volume: Option<String>,
}

impl Machine {
    /// Starts one and waits until its sshd listens.
    pub fn start() -> Self {
        Self::boot(Block::take(), None, &[])
    }

    /// The same with a container engine, which is one of this machine.
    pub fn with_engine(socket: &Path) -> Self {
        Self::boot(Block::take(), None, &[format!("--bind={}:/run/docker.sock", socket.display())])
    }

    /// The same with an empty volume, as the provider attaches one.
    pub fn with_volume() -> Self {
        let block = Block::take();
        let file = block.folder.join("volume");
        let image = fs::File::create(&file).expect("make a file");
        image.set_len(VOLUME_BYTES).expect("make it long");
        let made = Command::new("mkfs.ext4").arg("-q").arg(&file).status();
        assert!(made.expect("mkfs.ext4 runs").success());
        let output = Command::new("losetup").args(["--find", "--show"]).arg(&file).output().expect("losetup runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let device = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let machine = Self::boot(block, Some(device.clone()), &[]);
        machine.output(&format!("mkdir -p /dev/disk/by-id && ln -s {device} {VOLUME}"));
        machine
    }

    /// Takes the volume from one machine to a new one, as somebody does who destroys a server and makes it anew.
    pub fn rebuild(mut self) -> Self {
        self.end();
        let volume = self.volume.take();
        let device = volume.clone().expect("it has a volume");
        let block = std::mem::replace(&mut self.block, Block::take());
        for used in ["disk", "files"] {
            fs::remove_dir_all(block.folder.join(used)).expect("remove what was of the old machine");
        }
        for key in ["host_key", "host_key.pub", "login_key", "login_key.pub"] {
            fs::remove_file(block.folder.join(key)).expect("remove a key");
        }
        let machine = Self::boot(block, volume, &[]);
        machine.output(&format!("mkdir -p /dev/disk/by-id && ln -s {device} {VOLUME}"));
        machine
    }

    fn boot(block: Block, volume: Option<String>, binds: &[String]) -> Self {
        let folder = block.folder.clone();
        fs::create_dir(folder.join("disk")).expect("make a folder");
        let files = folder.join("files");
        make_key(&folder.join("host_key"));
        make_key(&folder.join("login_key"));
        let port = block.ports.0;
        let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a key");
        let write = |path: &str, text: &str, mode: u32| {
            let path = files.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
            fs::write(&path, text).expect("write a file");
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set its mode");
        };
        write("etc/machine-id", &format!("{:032x}\n", u128::from(port) + 1), 0o444);
        write("etc/hostname", "pgdb-test\n", 0o644);
        write("etc/ssh/pgdb_test_host_key", &read("host_key"), 0o600);
        write("etc/ssh/pgdb_test_sshd_config", &sshd_config(port, "/etc/ssh/pgdb_test_host_key"), 0o644);
        write("etc/ssh/pgdb_test_authorized_keys", &read("login_key.pub"), 0o644);
        write("etc/systemd/system/pgdb-test.target", TARGET, 0o644);
        let unit =
            "[Service]\nRuntimeDirectory=sshd\nExecStart=/usr/sbin/sshd -D -e -f /etc/ssh/pgdb_test_sshd_config\n";
        write("etc/systemd/system/pgdb-test-sshd.service", unit, 0o644);
        write("etc/sudoers.d/pgdb-test", &format!("{ADMIN} ALL=(ALL) NOPASSWD: ALL\n"), 0o440);
        for (number, file) in ["passwd", "group", "shadow"].into_iter().enumerate() {
            let ours = fs::read_to_string(Path::new("/etc").join(file)).expect("a file of this machine");
            let mut text: String = ours.split_inclusive('\n').filter(|line| !line.starts_with("pgdb:")).collect();
            for (name, id) in [(ADMIN, 4701), (GUEST, 4702)] {
                text.push_str(&match number {
                    0 => format!("{name}:x:{id}:{id}::/tmp:/bin/sh\n"),
                    1 => format!("{name}:x:{id}:\n"),
                    // No password, and yet not locked.
                    _ => format!("{name}:*:19000::::::\n"),
                });
            }
            write(&format!("etc/{file}"), &text, if number == 2 { 0o600 } else { 0o644 });
        }
        // Services of this machine's own have no business there.
        fs::create_dir_all(files.join("etc/systemd/system")).expect("make a folder");
        for unit in
            ["timers.target", "systemd-networkd.service", "systemd-resolved.service", "docker.socket", "docker.service"]
        {
            std::os::unix::fs::symlink("/dev/null", files.join("etc/systemd/system").join(unit)).expect("mask a unit");
        }
        let log = fs::File::create(folder.join("console.log")).expect("a log");
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "TERM",
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            START,
            "sh",
        ]);
        command.arg(&folder).arg(format!("pgdb-test-{port}")).arg(HIDDEN);
        command.args(volume.iter().map(|device| format!("--bind={device}"))).args(binds);
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        let process = command.spawn().expect("systemd-nspawn runs");
        let mut machine = Self { block, process, volume };
        machine.wait();
        machine
    }

    fn wait(&mut self) {
        for _ in 0..600 {
            let ended = self.process.try_wait().expect("a child of ours");
            let listens = std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, self.ssh_port())).is_ok();
            if listens {
                return;
            }
            assert!(ended.is_none(), "the machine ended: {}", self.console());
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the machine's sshd does not listen: {}", self.console());
    }

    fn console(&self) -> String {
        fs::read_to_string(self.folder().join("console.log")).unwrap_or_default()
    }

    /// A folder of the test's own, outside the machine.
    pub fn folder(&self) -> &Path {
        &self.block.folder
    }

    /// Where its sshd listens.
    pub fn ssh_port(&self) -> u16 {
        self.block.ports.0
    }

    /// A port that is free for a daemon on it.
    pub fn http_port(&self) -> u16 {
        self.block.http_port
    }

    /// The host key, as a line.
    pub fn host_key(&self) -> String {
        fs::read_to_string(self.folder().join("host_key.pub")).expect("a key")
    }

    /// The private key that may log in.
    pub fn login_key(&self) -> PathBuf {
        self.folder().join("login_key")
    }

    /// Runs a command there as root.
    pub fn run(&self, command: &str) -> Output {
        let known = self.folder().join("known_hosts");
        fs::write(&known, format!("[127.0.0.1]:{} {}", self.ssh_port(), self.host_key())).expect("write known hosts");
        let mut ssh = Command::new("ssh");
        ssh.args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR", "-p"]);
        ssh.arg(self.ssh_port().to_string()).arg("-i").arg(self.login_key()).arg("-o");
        ssh.arg(format!("UserKnownHostsFile={}", known.display())).args(["root@127.0.0.1", command]);
        ssh.stdin(Stdio::null()).output().expect("ssh runs")
    }

    /// What a command prints there that goes well.
    pub fn output(&self, command: &str) -> String {
        let output = self.run(command);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (status, said) = (output.status, String::from_utf8_lossy(&output.stderr));
        assert!(status.success(), "{command}: {status}: {text}{said}\n{}", self.console());
        text
    }
}

impl Machine {
    /// Ends it, as a shutdown does; at once if that takes too long.
    fn end(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).expect("a pid"));
        // The first is a wish, the second an order.
        for _ in 0..2 {
            let _ = kill(pid, Signal::SIGTERM);
            for _ in 0..150 {
                if self.process.try_wait().ok().flatten().is_some() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.process.try_wait().ok().flatten().is_none() {
            self.end();
        }
        if let Some(device) = &self.volume {
            let _ = Command::new("losetup").arg("--detach").arg(device).status();
        }
    }
}

/// A new key pair, the public part in `PATH.pub`.
pub fn make_key(path: &Path) {
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(path).status();
    assert!(made.expect("ssh-keygen runs").success());
}

/// Keys alone, on this machine alone.
pub fn sshd_config(port: u16, host_key: &str) -> String {
    format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nPidFile none\nPasswordAuthentication no\nUsePAM no\n\
         KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nStrictModes no\n\
         AuthorizedKeysFile /etc/ssh/pgdb_test_authorized_keys\nSubsystem sftp internal-sftp\n"
    )
}
