//! The parts of the scheduled backups of a sale's own database.

use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

/// Volume and schedule of the backups; both are absent if none are declared.
#[derive(Clone, Debug, Default)]
pub struct BackupParts {
    /// Volume of the dumps. No change of the sale deletes it.
    pub claim: Option<PersistentVolumeClaim>,
    /// Schedule of the dumps.
    pub cron_job: Option<CronJob>,
}
