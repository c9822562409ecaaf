//! Tenants: create, update, list.

use muster_core::{Command, Name, Reply, TenantSettings};
use muster_proto::v1;

use crate::api::{Api, Caller, unexpected};
use crate::errors::Error;
use crate::{convert, validate};

impl Api {
    pub(crate) async fn create_tenant(
        &self,
        caller: Caller,
        request: v1::CreateTenantRequest,
    ) -> Result<v1::CreateTenantResponse, Error> {
        let (name, settings) = validate::create_tenant(request.tenant)?;
        let tenant = self.set_tenant(&caller, name, settings, true).await?;
        Ok(v1::CreateTenantResponse { tenant: Some(tenant) })
    }

    pub(crate) async fn update_tenant(
        &self,
        caller: Caller,
        request: v1::UpdateTenantRequest,
    ) -> Result<v1::UpdateTenantResponse, Error> {
        let name = validate::name("name", &request.name)?;
        // The core takes all settings at once, so two updates at the same moment end with one of them.
        self.linearize(caller.deadline).await?;
        let before = self.tenant(&name, caller.deadline).await?;
        let settings = validate::update_tenant(&request, &before.settings)?;
        let tenant = self.set_tenant(&caller, name, settings, false).await?;
        Ok(v1::UpdateTenantResponse { tenant: Some(tenant) })
    }

    pub(crate) async fn get_tenant(
        &self,
        caller: Caller,
        request: v1::GetTenantRequest,
    ) -> Result<v1::GetTenantResponse, Error> {
        let name = validate::name("name", &request.name)?;
        let read = self.begin_read(request.consistency, caller.deadline).await?;
        let view = self
            .raft()
            .read(|core| core.tenant_id(&name).and_then(|id| core.tenant(id)));
        let tenant = view.ok_or(Error::TenantNotFound(name))?;
        Ok(v1::GetTenantResponse {
            tenant: Some(convert::tenant(&tenant, self.raft().clock())),
            freshness: read.freshness(),
        })
    }

    pub(crate) async fn list_tenants(
        &self,
        caller: Caller,
        request: v1::ListTenantsRequest,
    ) -> Result<v1::ListTenantsResponse, Error> {
        let read = self.begin_read(request.consistency, caller.deadline).await?;
        let tenants = self.raft().read(muster_core::Core::tenants);
        let now = self.raft().clock();
        Ok(v1::ListTenantsResponse {
            tenants: tenants.iter().map(|view| convert::tenant(view, now)).collect(),
            freshness: read.freshness(),
        })
    }

    /// Sets it, and reads it back where it was applied.
    async fn set_tenant(
        &self,
        caller: &Caller,
        name: Name,
        settings: TenantSettings,
        create_only: bool,
    ) -> Result<v1::Tenant, Error> {
        let deadline = caller.deadline;
        let command = Command::SetTenant {
            name: name.clone(),
            settings,
            create_only,
        };
        match self.propose_once(caller.request, command, deadline).await? {
            Reply::Tenant(_) => {}
            other => return Err(unexpected(&other)),
        }
        // The change itself is done: should the answer not be read in time, the outcome is "unknown" to the caller.
        let read_back = async {
            self.linearize(deadline).await?;
            self.tenant(&name, deadline).await
        };
        let view = read_back
            .await
            .map_err(|error| Error::Unknown(format!("reading it back: {error}")))?;
        Ok(convert::tenant(&view, self.raft().clock()))
    }
}
