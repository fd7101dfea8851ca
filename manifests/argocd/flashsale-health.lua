-- Health of a FlashSale for Argo CD: the key resource.customizations.health.flashsale.dev_FlashSale
-- of the ConfigMap argocd-cm.
local health = { status = "Progressing", message = "waiting for the operator" }
local status = obj.status
if status == nil or status.conditions == nil then
  return health
end
if status.observedGeneration ~= obj.metadata.generation then
  health.message = "the operator has not seen the last change yet"
  return health
end
local conditions = {}
for _, condition in ipairs(status.conditions) do
  if condition.status == "True" or condition.type == "Ready" then
    conditions[condition.type] = condition
  end
end
local ready = conditions.Ready
if ready ~= nil then
  health.message = ready.message
end
if conditions.Stalled ~= nil then
  health.status = "Degraded"
  health.message = conditions.Stalled.message
elseif conditions.Degraded ~= nil then
  health.status = "Degraded"
elseif ready ~= nil and ready.status == "True" then
  health.status = "Healthy"
end
return health
