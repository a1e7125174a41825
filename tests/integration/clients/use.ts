// A caller of the clients that openapi-typescript and @hey-api/openapi-ts make: it has to compile.
import { cancelTask, createGenerationTask, createTask, getTask, listLoras } from "./hey/index.js";
import type { components, paths, webhooks } from "./schema.js";

type Schemas = components["schemas"];
type Body<Path extends "/api/v1/tasks/generation"> = paths[Path]["post"]["requestBody"]["content"]["application/json"];

export const quick: Body<"/api/v1/tasks/generation"> = { prompt: "a hat" };
export const canonical: Schemas["CreateTask"] = { task_type: "GENERATION", prompt: "a hat" };
export const training: Schemas["TrainingRequest"] = { trigger_word: "zxdress", source_images: ["a.png"] };
export const workflow: Schemas["WorkflowRequest"] = {
  name: "a hat",
  origin_instance: "shop",
  steps: [{ id: "draw", task_type: "GENERATION" }],
};

export function picture(task: Schemas["CanonicalTask"]): string | null {
  return task.task_type === "GENERATION" ? task.result_image_path : null;
}

export function ended(event: webhooks["TaskStatus"]["post"]["requestBody"]["content"]["application/json"]): boolean {
  return event.status === "COMPLETED";
}

export async function draw(): Promise<string | undefined> {
  const made = await createTask({ body: { task_type: "GENERATION", prompt: "a hat", priority: 2 } });
  await createGenerationTask({ body: { prompt: "a hat" } });
  await cancelTask({ path: { task_id: "task_0" } });
  await getTask({ path: { task_id: "task_0" } });
  await listLoras();
  return made.data?.id;
}
