async function waitForTask(
  taskId: string,
  api_key: string,
  timeout = 300000
): Promise<any> {
  const baseUrl = "https://compute.example.com/api/v1";
  const headers = { Authorization: `Bearer ${api_key}` };
  const start = Date.now();

  while (Date.now() - start < timeout) {
    const response = await fetch(`${baseUrl}/tasks/${taskId}`, {
      headers,
    });
    const task = await response.json();

    if (task.status === "completed") {
      return task;
    } else if (task.status === "failed") {
      throw new Error(`Task failed: ${task.error}`);
    } else if (task.status === "cancelled") {
      throw new Error("Task was cancelled");
    }

    console.log(`Progress: ${(task.progress || 0) * 100}%`);
    await new Promise((r) => setTimeout(r, 2000));
  }

  throw new Error("Task timed out");
}
