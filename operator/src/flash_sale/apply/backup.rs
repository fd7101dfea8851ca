//! Step 4 for the backups of a sale's own database.

use k8s_openapi::api::batch::v1::CronJob;

use super::{Applier, Error};
use crate::flash_sale::backup::BackupParts;

impl Applier<'_> {
    /// Applies the declared backups, or deletes their `CronJob`. Their claim stays.
    pub(super) async fn apply_backup(
        &mut self,
        parts: Box<BackupParts>,
    ) -> Result<Box<BackupParts>, Error> {
        self.delete_undeclared::<CronJob>().await?;
        let BackupParts { claim, cron_job } = *parts;
        let claim = match claim {
            Some(claim) => self.apply_declared(claim).await?,
            None => None,
        };
        let cron_job = match cron_job {
            Some(cron_job) => self.apply_declared(cron_job).await?,
            None => None,
        };
        Ok(Box::new(BackupParts { claim, cron_job }))
    }
}
