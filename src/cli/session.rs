//! From folders, files and passphrases to an open vault.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use etcetera::BaseStrategy as _;
use indicatif::MultiProgress;
use tokio::runtime::{Builder, Runtime};

use crate::cli::Globals;
use crate::cli::exit::{Exit, Failure};
use crate::cli::govern::random_key;
use crate::cli::news;
use crate::cli::output::Output;
use crate::cli::passphrase::{self, Given};
use crate::cli::progress::Meter;
use crate::cli::static_node::{GENESIS_FILE, read_genesis};
use crate::client::access::Shared;
use crate::client::keystore::{FIRST_VAULT, Keystore, KeystoreError, Secret, write_new};
use crate::client::{AtomicProgress, Client, ClientConfig, LedgerClient, Nodes, rotation};
use crate::crypto::seed::{OwnerRoot, Seed, VaultKeys};
use crate::types::limits::MAX_KEY_GENERATION;
use crate::types::{GrantId, Network, PublicKey, VaultId};

/// How often a passphrase may be mistyped.
const PASSPHRASE_TRIES: u32 = 3;

/// One run of the program: its common arguments, folders and output.
pub(crate) struct Session {
    globals: Globals,
    home: PathBuf,
    output: Arc<Output>,
}

impl Session {
    pub(crate) fn new(globals: Globals) -> anyhow::Result<Self> {
        let home = match &globals.home {
            Some(home) => std::path::absolute(home)?,
            None => default_home()?,
        };
        let bars = MultiProgress::with_draw_target(globals.progress.target(globals.quiet || globals.json));
        let output = Output::new(globals.json, globals.quiet, globals.color, bars);
        let output = Arc::new(output.verbose(globals.verbose > 0));
        Ok(Self { globals, home, output })
    }

    pub(crate) fn output(&self) -> &Arc<Output> {
        &self.output
    }

    /// Shows how far transfers are, until the meter is dropped.
    pub(crate) fn meter(&self, verb: &'static str, progress: Arc<AtomicProgress>) -> Meter {
        Meter::start(self.globals.progress, Arc::clone(&self.output), verb, progress)
    }

    /// The folder of the keystore and all local state.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The home folder if it is not the one that commands find by themselves.
    pub(crate) fn unusual_home(&self) -> Option<&Path> {
        let usual = default_home().ok();
        (usual.as_deref() != Some(&self.home)).then_some(self.home.as_path())
    }

    pub(crate) fn keystore_path(&self) -> PathBuf {
        self.home.join("keystore")
    }

    /// The folder of the devnet that needs no `--dir`.
    pub(crate) fn devnet_dir(&self) -> PathBuf {
        self.home.join("devnet")
    }

    /// The network file that was named, if one was.
    pub(crate) fn named_network_file(&self) -> Option<&Path> {
        self.globals.network.as_deref()
    }

    /// The network file: the one named, else that of the home folder, else that of the devnet there.
    pub(crate) fn network_file(&self) -> PathBuf {
        if let Some(named) = self.named_network_file() {
            return named.to_owned();
        }
        let (own, devnet) = (self.home.join("network.toml"), self.devnet_dir().join("network.toml"));
        if !own.exists() && devnet.exists() { devnet } else { own }
    }

    pub(crate) fn network(&self) -> anyhow::Result<Network> {
        let path = self.network_file();
        let shown = path.display();
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let missing = format!("there is no network file at {shown}");
                let hint = "name one with --network or XVAULT_NETWORK, or start one with `xvault devnet`";
                return Err(Failure::new(Exit::Failed, missing).hint(hint).into());
            }
            read => read.with_context(|| format!("cannot read the network file {shown}"))?,
        };
        Network::from_toml(&text).with_context(|| format!("the network file {shown}"))
    }

    /// The passphrase from a file, the environment or a command, if one of them is set.
    pub(crate) fn given_passphrase(&self) -> anyhow::Result<Option<Given>> {
        passphrase::given(self.globals.passphrase_file.as_deref())
    }

    /// Opens the keystore, which must have the words, asking for the passphrase if nothing gives it.
    pub(crate) fn unlock(&self) -> anyhow::Result<Seed> {
        let path = self.keystore_path();
        if Keystore::load(&path)?.is_device() {
            return Err(KeystoreError::DeviceOnly { path }.into());
        }
        match self.unlock_at(&path)? {
            Secret::Seed(seed) => Ok(seed),
            Secret::Device(_) => Err(KeystoreError::DeviceOnly { path }.into()),
        }
    }

    /// Opens a keystore, asking for the passphrase if nothing gives it.
    pub(crate) fn unlock_at(&self, path: &Path) -> anyhow::Result<Secret> {
        let keystore = Keystore::load(path)?;
        if !keystore.has_passphrase() {
            return Ok(keystore.open_any("")?);
        }
        if let Some(given) = self.given_passphrase()? {
            return keystore.open_any(&given.passphrase).with_context(|| given.origin);
        }
        for _ in 1..PASSPHRASE_TRIES {
            match keystore.open_any(&passphrase::ask("Passphrase: ")?) {
                Err(KeystoreError::WrongPassphrase { .. }) => self.output.warn("wrong passphrase, try again"),
                opened => return Ok(opened?),
            }
        }
        Ok(keystore.open_any(&passphrase::ask("Passphrase: ")?)?)
    }

    /// All that a client needs: network file, keys, and the folder of this vault in this network. The keys are of the generation that
    /// this home last knew of.
    pub(crate) fn client_config(&self) -> anyhow::Result<ClientConfig> {
        Ok(self.rooted_config()?.0)
    }

    /// The same, with what other generations of the keys derive from, where the words are here.
    pub(crate) fn rooted_config(&self) -> anyhow::Result<(ClientConfig, Option<OwnerRoot>)> {
        let network = self.network()?;
        let seed = match self.unlock_at(&self.keystore_path())? {
            Secret::Seed(seed) => seed,
            Secret::Device(keys) => return Ok((self.config_of(network, *keys), None)),
        };
        let root = seed.root();
        let first = root.vault(FIRST_VAULT, 0);
        let keys = match self.noted_generation(first.vault(), &network)? {
            0 => first,
            generation => root.vault(FIRST_VAULT, generation),
        };
        Ok((self.config_of(network, keys), Some(root)))
    }

    /// Where it is noted which generation of the vault's keys this home uses, unless it is the first.
    fn generation_note(&self, vault: &VaultId, network: &Network) -> PathBuf {
        self.vaults().join(format!("generation-{}-{}", vault.short(), network.id.short()))
    }

    fn noted_generation(&self, vault: &VaultId, network: &Network) -> anyhow::Result<u32> {
        let path = self.generation_note(vault, network);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let noted = text.trim().parse().ok().filter(|generation| *generation <= MAX_KEY_GENERATION);
        noted.ok_or_else(|| {
            let damaged = Failure::new(Exit::Corrupt, format!("{} is damaged", path.display()));
            damaged.hint("remove it, then `xvault recover` asks the ledger").into()
        })
    }

    /// Notes, durably, that this home uses these keys from here on.
    pub(crate) fn note_generation(&self, config: &ClientConfig) -> anyhow::Result<()> {
        let path = self.generation_note(config.keys.vault(), &config.network);
        let new = path.with_extension("new");
        std::fs::create_dir_all(self.vaults()).context("making the folder of the vaults")?;
        // One that a crash left is of no use.
        std::fs::remove_file(&new).ok();
        write_new(&new, config.keys.generation().to_string().as_bytes())
            .and_then(|()| std::fs::rename(&new, &path))
            .and_then(|()| std::fs::File::open(self.vaults())?.sync_all())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// What a client needs that uses these keys.
    pub(crate) fn config_of(&self, network: Network, keys: VaultKeys) -> ClientConfig {
        let home = self.vault_home(&keys.signing().public(), &network);
        ClientConfig { network, keys, home }
    }

    fn vault_home(&self, key: &PublicKey, network: &Network) -> PathBuf {
        self.vaults().join(format!("{}-{}", key.short(), network.id.short()))
    }

    /// The folder of the vaults' local state.
    pub(crate) fn vaults(&self) -> PathBuf {
        self.home.join("vaults")
    }

    /// What a client needs, with the keys of the generation that the ledger has: another home may have rotated them. Where the
    /// ledger does not say, those of this home.
    pub(crate) async fn config_of_now(
        &self,
        config: ClientConfig,
        root: Option<OwnerRoot>,
    ) -> anyhow::Result<ClientConfig> {
        let Some(root) = root.filter(|_| config.network.genesis.is_some()) else { return Ok(config) };
        match rotation::generation_of_now(&config).await {
            Ok(Some(now)) if now != config.keys.generation() && now <= MAX_KEY_GENERATION => {
                let config = self.config_of(config.network, root.vault(FIRST_VAULT, now));
                self.note_generation(&config)?;
                Ok(config)
            }
            Ok(_) => Ok(config),
            Err(error) => {
                tracing::info!(%error, "the generation of the vault's keys is not known");
                Ok(config)
            }
        }
    }

    /// Runs a command on the open vault; Ctrl-C ends it.
    pub(crate) fn with_client<F>(&self, command: F) -> anyhow::Result<Exit>
    where
        F: AsyncFnOnce(&Client) -> anyhow::Result<Exit>,
    {
        self.with_client_hinting(None, command)
    }

    /// The same, with the keys that the ledger has now.
    pub(crate) fn with_client_of_now<F>(&self, command: F) -> anyhow::Result<Exit>
    where
        F: AsyncFnOnce(&Client) -> anyhow::Result<Exit>,
    {
        self.with_client_of(None, true, command)
    }

    /// The same, with what to do after Ctrl-C.
    pub(crate) fn with_client_hinting<F>(
        &self,
        hint: Option<&'static str>,
        command: F,
    ) -> anyhow::Result<Exit>
    where
        F: AsyncFnOnce(&Client) -> anyhow::Result<Exit>,
    {
        self.with_client_of(hint, false, command)
    }

    fn with_client_of<F>(&self, hint: Option<&'static str>, of_now: bool, command: F) -> anyhow::Result<Exit>
    where
        F: AsyncFnOnce(&Client) -> anyhow::Result<Exit>,
    {
        let (mut config, root) = self.rooted_config()?;
        self.run(interruptible(hint, async {
            if of_now || !config.home.exists() {
                config = self.config_of_now(config, root).await?;
            }
            if !config.home.exists() {
                // The first command of a vault: a wrong network id would begin a folder of its own.
                let nodes = Nodes::new(&config);
                let checked = nodes.serve_this_network().await;
                nodes.close().await;
                checked?;
            }
            let client = Client::open(config).await?;
            let warner = self.output.warner();
            client.on_notice(move |notice| warner.warn(notice));
            let result = news::beside(&self.output, &client, command(&client)).await;
            client.close().await;
            result
        }))
    }

    /// Runs a command on what a grant lets be read or brought; Ctrl-C ends it.
    pub(crate) fn with_shared<F>(&self, grant: GrantId, command: F) -> anyhow::Result<Exit>
    where
        F: AsyncFnOnce(&Arc<Shared>) -> anyhow::Result<Exit>,
    {
        self.run(interruptible(None, async {
            let shared = Arc::new(crate::cli::access::open(self, grant).await?);
            let warner = self.output.warner();
            shared.on_notice(move |notice| warner.warn(notice));
            let result = command(&shared).await;
            if let Some(shared) = Arc::into_inner(shared) {
                shared.close().await;
            }
            result
        }))
    }

    /// Runs a command on the network's ledger, which needs no vault; Ctrl-C ends it.
    pub(crate) fn with_ledger<F>(&self, command: F) -> anyhow::Result<Exit>
    where
        F: AsyncFnOnce(&LedgerClient) -> anyhow::Result<Exit>,
    {
        self.with_ledger_of(None, command)
    }

    /// The same for an operator of a static node, whose folder has the genesis if no network file is here.
    pub(crate) fn with_ledger_of<F>(&self, dir: Option<&Path>, command: F) -> anyhow::Result<Exit>
    where
        F: AsyncFnOnce(&LedgerClient) -> anyhow::Result<Exit>,
    {
        let ledger = self.ledger(dir)?;
        self.run(interruptible(None, async {
            // Who cannot be asked now is asked again by the command, which says so.
            if let Err(error) = ledger.follow().await {
                tracing::info!(%error, "the static nodes of now are not known");
            }
            command(&ledger).await
        }))
    }

    /// The ledger of the network file, else of the genesis in a static node's folder.
    pub(crate) fn ledger(&self, dir: Option<&Path>) -> anyhow::Result<LedgerClient> {
        let genesis = dir.map(|dir| dir.join(GENESIS_FILE)).filter(|path| path.exists());
        let network = match genesis {
            Some(path) if self.named_network_file().is_none() && !self.network_file().exists() => {
                let genesis = read_genesis(&path)?;
                let text = Some(genesis.to_text());
                Network { id: genesis.network, code: genesis.code, genesis: text, nodes: Vec::new() }
            }
            _ => self.network()?,
        };
        // Anybody may ask: a key for this once.
        Ok(LedgerClient::new(&network, &random_key()?)?)
    }

    /// Asks the nodes how they are, which takes no key but one for this once; Ctrl-C ends it.
    pub(crate) fn with_nodes<F>(&self, command: F) -> anyhow::Result<Exit>
    where
        F: AsyncFnOnce(&Nodes) -> anyhow::Result<Exit>,
    {
        let (network, key) = (self.network()?, random_key()?);
        self.run(interruptible(None, async {
            let mut nodes = Nodes::asked_by(&network, &key);
            if let Err(error) = nodes.learn().await {
                self.output.warn(format_args!("without the nodes that only the ledger knows: {error}"));
            }
            let result = command(&nodes).await;
            nodes.close().await;
            result
        }))
    }

    /// Runs to the end whatever signals come; the caller handles those.
    pub(crate) fn run<T>(&self, future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let runtime: Runtime =
            Builder::new_multi_thread().enable_all().build().context("starting threads")?;
        let result = runtime.block_on(future);
        self.output.bars().clear().ok();
        // A read of stdin may never return: nobody waits for it.
        runtime.shutdown_background();
        result
    }
}

/// The same, but Ctrl-C ends it.
async fn interruptible<T>(
    hint: Option<&str>,
    future: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        result = future => result,
        signal = tokio::signal::ctrl_c() => {
            signal.context("waiting for Ctrl-C")?;
            let interrupted = Failure::new(Exit::Interrupted, "interrupted");
            Err(match hint {
                Some(hint) => interrupted.hint(hint),
                None => interrupted,
            }
            .into())
        }
    }
}

fn default_home() -> anyhow::Result<PathBuf> {
    let strategy = etcetera::choose_base_strategy()
        .context("cannot find your home folder: set HOME, or name a folder with --home")?;
    Ok(strategy.data_dir().join("xvault"))
}
