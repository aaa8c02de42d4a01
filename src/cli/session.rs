//! From folders, files and passphrases to an open vault.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use etcetera::BaseStrategy as _;
use indicatif::MultiProgress;
use tokio::runtime::{Builder, Runtime};

use crate::cli::Globals;
use crate::cli::emergency;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::passphrase::{self, Given};
use crate::cli::progress::Meter;
use crate::cli::static_node::{GENESIS_FILE, read_genesis};
use crate::client::access::Shared;
use crate::client::keystore::{Keystore, KeystoreError, vault_keys};
use crate::client::{AtomicProgress, Client, ClientConfig, LedgerClient, Nodes};
use crate::crypto::seed::Seed;
use crate::crypto::sign::KeyPair;
use crate::types::{GrantId, Network};

/// How long the end of a command waits for what static nodes say of emergencies.
const NEWS_PATIENCE: Duration = Duration::from_millis(300);
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

    /// Opens the keystore, asking for the passphrase if nothing gives it.
    pub(crate) fn unlock(&self) -> anyhow::Result<Seed> {
        let keystore = Keystore::load(&self.keystore_path())?;
        if !keystore.has_passphrase() {
            return Ok(keystore.open("")?);
        }
        if let Some(given) = self.given_passphrase()? {
            return keystore.open(&given.passphrase).with_context(|| given.origin);
        }
        for _ in 1..PASSPHRASE_TRIES {
            match keystore.open(&passphrase::ask("Passphrase: ")?) {
                Err(KeystoreError::WrongPassphrase { .. }) => self.output.warn("wrong passphrase, try again"),
                opened => return Ok(opened?),
            }
        }
        Ok(keystore.open(&passphrase::ask("Passphrase: ")?)?)
    }

    /// All that a client needs: network file, keys, and the folder of this vault in this network.
    pub(crate) fn client_config(&self) -> anyhow::Result<ClientConfig> {
        let network = self.network()?;
        let keys = vault_keys(&self.unlock()?);
        let vault = format!("{}-{}", keys.signing().public().short(), network.id.short());
        Ok(ClientConfig { network, keys, home: self.home.join("vaults").join(vault) })
    }

    /// Runs a command on the open vault; Ctrl-C ends it.
    pub(crate) fn with_client<F>(&self, command: F) -> anyhow::Result<Exit>
    where
        F: AsyncFnOnce(&Client) -> anyhow::Result<Exit>,
    {
        self.with_client_hinting(None, command)
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
        let config = self.client_config()?;
        self.run(interruptible(hint, async {
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
            let result = self.with_news(&client, command(&client)).await;
            client.close().await;
            result
        }))
    }

    /// Runs a command on an open vault, and beside it tells the owner of emergencies. It waits little for that, and says nothing if
    /// the static nodes do not answer: the next command does.
    async fn with_news(
        &self,
        client: &Client,
        command: impl Future<Output = anyhow::Result<Exit>>,
    ) -> anyhow::Result<Exit> {
        let (mut news, mut heard) = (std::pin::pin!(client.emergency_news()), None);
        let mut command = std::pin::pin!(command);
        let result = loop {
            tokio::select! {
                result = &mut command => break result,
                found = &mut news, if heard.is_none() => heard = Some(found),
            }
        };
        if heard.is_none() {
            heard = tokio::time::timeout(NEWS_PATIENCE, news).await.ok();
        }
        match heard {
            Some(Ok(found)) if !found.is_empty() => {
                found.iter().for_each(|seen| self.output.warn(emergency::notice(seen)));
                if let Err(error) = client.told_of_emergencies(&found).await {
                    tracing::warn!(%error, "the owner will be told of emergencies again");
                }
            }
            Some(Err(error)) => tracing::info!(%error, "whether there are emergencies is not known"),
            _ => {}
        }
        result
    }

    /// Runs a command on what a grant lets be read; Ctrl-C ends it.
    pub(crate) fn with_shared<F>(&self, grant: GrantId, command: F) -> anyhow::Result<Exit>
    where
        F: AsyncFnOnce(&Shared) -> anyhow::Result<Exit>,
    {
        self.run(interruptible(None, async {
            let shared = crate::cli::access::open(self, grant).await?;
            command(&shared).await
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
        let mut secret = zeroize::Zeroizing::new([0; 32]);
        getrandom::fill(&mut *secret)?;
        Ok(LedgerClient::new(&network, &KeyPair::from_secret(&secret))?)
    }

    /// Asks the nodes how they are, without the vault's index; Ctrl-C ends it.
    pub(crate) fn with_nodes<F>(&self, command: F) -> anyhow::Result<Exit>
    where
        F: AsyncFnOnce(&Nodes) -> anyhow::Result<Exit>,
    {
        let config = self.client_config()?;
        self.run(interruptible(None, async {
            let mut nodes = Nodes::new(&config);
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
